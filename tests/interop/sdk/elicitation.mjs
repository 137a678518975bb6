// A call that needs a sign-in, by clients that open URLs for their user: the client is asked to, the
// person signs in, and the same call goes through.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const script = new URL('../sign-in', import.meta.url).pathname;
export const ada = 'ada@contoso.example';
const origin = new URL(process.env.MCP_URL).origin;

/// A person who opens the link and signs in as Ada.
export const signIn = link => promisify(execFile)(script, [link]);

/// Each needs a sign-in of its own: the first any, the second one with a claim that the API demands, the
/// third one with a further permission.
const calls = [['/me', 'userPrincipalName', ada], ['/cae', 'cae', true]];

const get = endpoint => ({ name: 'api_get_request', arguments: { endpoint } });

async function signOut(client) {
  const { structuredContent } = await client.callTool({ name: 'view_userid', arguments: {} });
  for (const user_id of structuredContent.user_ids) {
    await client.callTool({ name: 'logout_user', arguments: { user_id } });
  }
}

function demandInvitation({ mode, message, url }) {
  assert.equal(mode, 'url');
  assert.match(message, /Sign in with Microsoft Entra ID/);
  assert.equal(new URL(url).origin, origin);
}

/// Revision 2025-11-25: the error UrlElicitationRequired. The SDKs hand it to the program, which opens
/// the link and repeats the call. `call` is `callTool`, whose options stand elsewhere in version 1.
export async function repeatedByTheProgram(client, call, UrlElicitationRequired) {
  const elicited = async request => {
    const error = await call(request).then(assert.fail, error => error);
    assert.ok(error instanceof UrlElicitationRequired, error);
    const [elicitation] = error.elicitations;
    demandInvitation(elicitation);
    return elicitation.url;
  };
  await signOut(client);
  for (const [endpoint, member, value] of calls) {
    await signIn(await elicited(get(endpoint)));
    const { structuredContent } = await call(get(endpoint));
    assert.equal(structuredContent.data[member], value, JSON.stringify(structuredContent));
  }

  // A program that wants to know when the person has finished waits in check_auth_status.
  await signOut(client);
  const link = await elicited(get('/me'));
  const waiting = { name: 'check_auth_status', arguments: { wait_seconds: 60 } };
  const waited = await signInWhenItWaits(() => link, options => call(waiting, options));
  assert.equal(waited.structuredContent.authenticated, true, JSON.stringify(waited));
  assert.equal((await call(get('/me'))).structuredContent.success, true);
  await signOut(client);
}

/// Revision 2026-07-28: a result with `input_required`. The SDK asks the program's handler, and repeats the
/// call with its answer and the state by itself.
export async function repeatedByTheSdk(client) {
  const asked = [];
  const answering = answer => {
    asked.length = 0;
    client.setRequestHandler('elicitation/create', async ({ params }) => {
      asked.push(params);
      demandInvitation(params);
      return { action: await answer(params.url) };
    });
  };
  await signOut(client);
  answering(async link => {
    await signIn(link);
    return 'accept';
  });
  for (const [index, [endpoint, member, value]] of calls.entries()) {
    const { structuredContent } = await client.callTool(get(endpoint));
    assert.equal(structuredContent.data[member], value, JSON.stringify(structuredContent));
    assert.equal(asked.length, index + 1);
  }

  await signOut(client);
  for (const [action, message] of [['decline', /declined to sign in/], ['cancel', /not decided to sign in/]]) {
    answering(async () => action);
    const { isError, structuredContent } = await client.callTool(get('/me'));
    assert.deepEqual([isError, structuredContent.error, asked.length], [true, 'refused', 1]);
    assert.match(structuredContent.message, message);
  }

  // Whoever accepts has not finished: the call waits for them.
  let link;
  answering(async url => {
    link = url;
    return 'accept';
  });
  const { structuredContent } = await signInWhenItWaits(() => link, options => client.callTool(get('/me'), options));
  assert.equal(structuredContent.data?.userPrincipalName, ada, JSON.stringify(structuredContent));
  assert.equal(asked.length, 1);
  await signOut(client);
}

/// Lets `call` wait for a sign-in, which begins at the server's first progress notification. The SDK reports
/// rounds of its own in the same way.
async function signInWhenItWaits(link, call) {
  let person;
  const onprogress = ({ message }) => {
    if (message === 'Waiting for the user to sign in') person ??= signIn(link());
  };
  const result = await call({ onprogress });
  assert.ok(person, 'the call has not waited');
  await person;
  return result;
}
