//! The API's description (OpenAPI 3.0 to 3.2, Swagger 2.0): its operations, what each takes, and
//! how that is sent.
//!
//! [`Description::read`] makes a list of operations of the text ([`document`], [`operation`],
//! [`parameter`], [`body`], [`form`]); each is named ([`names`]), and offered or skipped with a
//! reason ([`offer`], [`servers`], [`references`]). [`Description::arguments`] says what one takes
//! ([`arguments`]; [`schema`] makes a [`listed`] schema of a [`shape`], with [`detail`],
//! [`wording`], [`constants`] and [`writable`]), and [`Operation::prepare`] makes a request of what
//! is given ([`send`], [`template`], [`style`], [`multipart`]).
//!
//! The text is split where it is needed ([`split`]), and no more of it than a bound allows
//! ([`work`]).
//!
//! Nothing here calls the API, and nothing here is a permission: what becomes of an operation is an
//! endpoint, headers and a body, which go the way of every call.

mod arguments;
mod body;
mod constants;
mod describe;
mod detail;
mod document;
mod form;
pub mod listed;
mod multipart;
mod names;
pub mod offer;
mod operation;
mod parameter;
mod question;
mod references;
mod schema;
pub mod search;
mod send;
mod servers;
mod shape;
mod split;
mod style;
mod template;
mod text;
mod wording;
mod words;
mod work;
mod writable;

use std::collections::BTreeSet;
use std::sync::Arc;

use url::Url;

pub use self::arguments::{Arguments, BodyArgument, Bounds, GivenBody};
use self::document::{Document, Node, ObjectNode, Source};
pub use self::names::OWN_TOOLS;
use self::offer::Wanted;
pub use self::operation::Operation;
pub use self::parameter::{Parameter, Place};
use self::parameter::{Rules, credentials};
use self::references::Leaving;
pub use self::send::{Prepared, PreparedBody};
use self::servers::Servers;
use self::text::tidy;
use self::work::Work;
use crate::api::endpoint::Base;
use crate::api::fixed_headers::FixedHeaders;
use crate::api::policy::{METHODS, Policy};

/// The methods that a description may have besides [`METHODS`].
const OTHER_METHODS: [&str; 4] = ["head", "options", "trace", "query"];

/// The longest path of an operation.
const MOST_PATH_BYTES: usize = 4096;
/// The longest reason for skipping one.
const MOST_REASON_BYTES: usize = 600;

/// What decides which operations are offered.
pub struct Surroundings<'a> {
    /// What calls are allowed.
    pub policy: &'a Policy,
    /// The API's base URL.
    pub base: Option<&'a Url>,
    /// The headers that every call has in addition to the caller's.
    pub fixed_headers: Option<&'a FixedHeaders>,
    /// Which operations the settings offer.
    pub wanted: &'a Wanted,
}

/// The description of the API, read.
#[derive(Debug)]
pub struct Description {
    source: Source,
    operations: Vec<Arc<Operation>>,
    skipped: Vec<Skipped>,
    doubts: Vec<String>,
}

/// An operation that is not offered.
#[derive(Debug)]
pub struct Skipped {
    /// `GET /users/{id}`
    pub operation: String,
    /// Why, as the rest of a sentence.
    pub reason: String,
}

impl Description {
    /// Reads the contents of a description.
    ///
    /// # Errors
    /// Why it cannot be used, and what to do.
    pub fn read(contents: Vec<u8>, surroundings: &Surroundings<'_>) -> Result<Self, String> {
        let source = Source::parse(contents)?;
        let Surroundings {
            policy,
            base,
            wanted,
            ..
        } = *surroundings;
        let Found {
            mut operations,
            mut skipped,
            doubt,
        } = Found::in_source(&source, surroundings).map_err(|_| {
            "it takes too much work to read: leave out what is not needed for calls".to_owned()
        })?;
        names::name_tools(&mut operations);
        let mut doubts = wanted.doubts(&operations);
        doubts.extend(doubt);

        let mut offered = Vec::new();
        for operation in operations {
            let allowed = wanted
                .check(&operation)
                .and_then(|()| can_be_called(&operation, policy, base));
            match allowed {
                Ok(()) => offered.push(Arc::new(operation)),
                Err(reason) => skipped.push(Skipped {
                    operation: operation.line(),
                    reason,
                }),
            }
        }
        if offered.is_empty() {
            return Err(nothing_offered(&skipped));
        }
        Ok(Self {
            source,
            operations: offered,
            skipped,
            doubts,
        })
    }

    /// The operations that are offered.
    pub fn operations(&self) -> &[Arc<Operation>] {
        &self.operations
    }

    /// The others, each with the reason.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Warnings, as sentences: what is valid but probably not intended.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// What `operation`, one of this description, takes.
    ///
    /// # Errors
    /// It cannot be said within the bounds, or not sent; as the rest of a sentence.
    pub fn arguments(&self, operation: &Operation, bounds: Bounds) -> Result<Arguments, String> {
        self.reading().arguments(operation, bounds)
    }

    /// Reads what operations take, one after the other.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            source: &self.source,
            work: Work::new(self.source.text().len()),
        }
    }

    /// The operation that `text` names: by the name of its tool, by its id, or as
    /// `GET /users/{id}`.
    pub fn operation(&self, text: &str) -> Option<&Operation> {
        let is_meant = |operation: &&Arc<Operation>| {
            operation.name == text
                || operation.id.as_deref() == Some(text)
                || operation.line() == text
        };
        self.operations.iter().find(is_meant).map(Arc::as_ref)
    }
}

/// Reads what operations take. All of them together have one bound of work.
pub struct Reading<'d> {
    source: &'d Source,
    work: Work,
}

impl Reading<'_> {
    /// What `operation`, one of the description, takes.
    ///
    /// # Errors
    /// It cannot be said within the bounds, or not sent; as the rest of a sentence.
    pub fn arguments(&self, operation: &Operation, bounds: Bounds) -> Result<Arguments, String> {
        let document = self.source.with(&self.work);
        self.work.for_one(|| operation.arguments(document, bounds))
    }
}

/// The operations of a description.
struct Found {
    operations: Vec<Operation>,
    skipped: Vec<Skipped>,
    /// A warning.
    doubt: Option<String>,
}

impl Found {
    /// Those of `source`.
    ///
    /// # Errors
    /// What all operations share takes too much work to read.
    fn in_source(source: &Source, surroundings: &Surroundings<'_>) -> Result<Self, String> {
        let work = Work::new(source.text().len());
        let document = source.with(&work);
        let servers = work.for_one(|| Ok(Servers::of(document, surroundings.base)))?;
        let rules = Rules {
            headers: &surroundings.policy.headers,
            fixed_headers: surroundings.fixed_headers,
            credentials: work.for_one(|| Ok(credentials(document)))?,
        };
        let mut search = Search {
            document,
            rules,
            servers: &servers,
            leaving: Leaving::of(source)?,
            operations: Vec::new(),
            skipped: Vec::new(),
        };
        search.look();
        Ok(Self {
            operations: search.operations,
            skipped: search.skipped,
            doubt: servers.doubt(),
        })
    }
}

/// Looks through the paths for operations.
struct Search<'d> {
    document: Document<'d>,
    rules: Rules<'d>,
    servers: &'d Servers,
    leaving: Leaving,
    operations: Vec<Operation>,
    skipped: Vec<Skipped>,
}

impl<'d> Search<'d> {
    fn look(&mut self) {
        for (path, item) in self.document.paths() {
            if path.starts_with("x-") {
                continue;
            }
            if path.len() > MOST_PATH_BYTES {
                let reason = format!("its path has more than {MOST_PATH_BYTES} bytes");
                self.skip(tidy(path, MOST_PATH_BYTES), &reason);
                continue;
            }
            let document = self.document;
            let item = document.work.for_one(|| document.resolve(item));
            match item {
                Ok(item) => self.look_at_path(path, &item),
                Err(reason) => self.skip(path.to_owned(), &reason),
            }
        }
    }

    fn look_at_path(&mut self, path: &str, item: &ObjectNode<'d>) {
        let mut known = BTreeSet::new();
        for (name, node) in item.members() {
            let mut methods = METHODS.into_iter();
            if let Some(method) = methods.find(|method| method.to_ascii_lowercase() == **name) {
                // JSON may have a name twice (RFC 8259 §4).
                if !known.insert(method) {
                    self.skip(
                        format!("{method} {path}"),
                        "its path has this method twice, and the first one counts",
                    );
                    continue;
                }
                let work = self.document.work;
                match work.for_one(|| self.read(method, path, item, node)) {
                    Ok(operation) => self.operations.push(operation),
                    Err(reason) => self.skip(format!("{method} {path}"), &reason),
                }
            } else if OTHER_METHODS.contains(&&**name) {
                self.skip_method(&name.to_ascii_uppercase(), path);
            } else if name == "additionalOperations" {
                self.skip_methods(node, path);
            }
        }
    }

    fn read(
        &self,
        method: &'static str,
        path: &str,
        item: &ObjectNode<'d>,
        node: Node<'d>,
    ) -> Result<Operation, String> {
        let operation = self.document.resolve(node)?;
        // The servers of an operation replace those of its path.
        if operation.get("servers").is_some() {
            self.servers.check(&operation)?;
        } else {
            self.servers.check(item)?;
        }
        let parts = [
            item.get("parameters"),
            operation.get("parameters"),
            operation.get("requestBody"),
        ];
        for part in parts.into_iter().flatten() {
            self.leaving.check(self.document, part)?;
        }
        let mut operation =
            operation::read(self.document, &self.rules, (method, path), item, &operation)?;
        names::name_arguments(&mut operation.parameters);
        Ok(operation)
    }

    /// Skips what has methods that are not sent.
    fn skip_methods(&mut self, operations: Node<'d>, path: &str) {
        let work = self.document.work;
        let skipped = work.for_one(|| {
            for (method, _) in operations.object().members() {
                if work.look(path.len()) {
                    self.skip_method(method, path);
                }
            }
            Ok(())
        });
        if let Err(reason) = skipped {
            self.skip(path.to_owned(), &reason);
        }
    }

    fn skip_method(&mut self, method: &str, path: &str) {
        let reason = format!("{method} is not among the methods that are sent");
        self.skip(format!("{method} {path}"), &reason);
    }

    fn skip(&mut self, operation: String, reason: &str) {
        self.skipped.push(Skipped {
            operation,
            reason: tidy(reason, MOST_REASON_BYTES),
        });
    }
}

/// Whether some call of `operation` is allowed.
///
/// # Errors
/// Why none is.
fn can_be_called(operation: &Operation, policy: &Policy, base: Option<&Url>) -> Result<(), String> {
    policy.check_template(operation.method, &operation.path)?;
    let Some(base) = base else {
        return Ok(());
    };
    let path = template::filled(&operation.path, "x")?;
    let target = Base(base.clone()).target(&path, &[]);
    target.map(drop).map_err(|failure| failure.message)
}

/// What is wrong with a description of which no operation is offered.
fn nothing_offered(skipped: &[Skipped]) -> String {
    match skipped {
        [] => {
            "it has no operation: name the description of the API that is to be called".to_owned()
        }
        [first, ..] => format!(
            "none of its {} operations can be offered, such as {}: {}",
            skipped.len(),
            first.operation,
            first.reason
        ),
    }
}
