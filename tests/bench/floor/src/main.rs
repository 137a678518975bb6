//! What this design costs at least: a thread a connection, each POST becomes a GET of the backend, its
//! body goes back as it came. `floor PORT BACKEND`; a POST to /list is answered with a constant.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use ureq::Agent;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (port, backend) = (arguments.next().unwrap(), arguments.next().unwrap());
    let agent = Agent::config_builder()
        .max_idle_connections(128)
        .max_idle_connections_per_host(128)
        .build()
        .new_agent();
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for socket in listener.incoming().flatten() {
        let (agent, backend) = (agent.clone(), backend.clone());
        let thread = thread::Builder::new().stack_size(256 * 1024);
        let _ = thread.spawn(move || serve(socket, &agent, &backend));
    }
}

fn serve(mut socket: TcpStream, agent: &Agent, backend: &str) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let (mut input, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        let mut slots = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut slots);
        if let Ok(httparse::Status::Complete(head)) = request.parse(&input) {
            let length = request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case("content-length"));
            let length: usize = std::str::from_utf8(length?.value).ok()?.parse().ok()?;
            if input.len() >= head + length {
                let body = match request.path? {
                    "/list" => vec![b'x'; 20 * 1024],
                    path => {
                        let call = agent
                            .get(format!("{backend}{path}"))
                            .header("authorization", "Bearer bench");
                        call.call()
                            .ok()?
                            .body_mut()
                            .with_config()
                            .limit(u64::MAX)
                            .read_to_vec()
                            .ok()?
                    }
                };
                let mut answer = Vec::with_capacity(128 + body.len());
                write!(
                    answer,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                )
                .ok()?;
                answer.extend_from_slice(&body);
                socket.write_all(&answer).ok()?;
                input.drain(..head + length);
                continue;
            }
        }
        let count = socket.read(&mut piece).ok().filter(|count| *count > 0)?;
        input.extend_from_slice(piece.get(..count)?);
    }
}
