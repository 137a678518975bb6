//! Where the description says that the API is. Calls go below `BACKEND_API_BASE_URL` and nowhere
//! else, so this only tells what cannot be reached there.

use url::Url;

use super::document::{Document, Node, ObjectNode, Version};

/// How many servers are looked at.
const MOST_SERVERS: usize = 100;
/// The longest URL of one.
const MOST_URL_BYTES: usize = 2048;

/// The servers of a whole description.
pub(super) struct Servers {
    /// Their URLs. What is relative to the description has only a path.
    urls: Vec<String>,
    base: Option<Url>,
}

impl Servers {
    /// Those of `document`, compared with `base`, the API's base URL.
    pub(super) fn of(document: Document<'_>, base: Option<&Url>) -> Self {
        let urls = match document.version() {
            Version::OpenApi3 => document.root("servers").map(urls).unwrap_or_default(),
            Version::Swagger2 => swagger_urls(document),
        };
        Self {
            urls,
            base: base.cloned(),
        }
    }

    /// What is to be warned of: a path of the servers that the base URL lacks.
    pub(super) fn doubt(&self) -> Option<String> {
        let base = self.base.as_ref()?;
        let base_path = base.path().trim_end_matches('/');
        let paths: Vec<String> = self.urls.iter().map(|url| path_of(url)).collect();
        if paths.is_empty() || paths.iter().any(|path| base_path.ends_with(path.as_str())) {
            return None;
        }
        let path = paths.into_iter().next()?;
        Some(format!(
            "OPENAPI_FILE says that the API's paths lie below {path}, but BACKEND_API_BASE_URL is {base}: add it there if \
             the API needs it."
        ))
    }

    /// Refuses what has `servers` of its own of which none is at the base URL: an operation or a
    /// path item.
    ///
    /// # Errors
    /// Where it is.
    pub(super) fn check(&self, members: &ObjectNode<'_>) -> Result<(), String> {
        let Some(servers) = members.get("servers") else {
            return Ok(());
        };
        let own = urls(servers);
        if own.is_empty() || own.iter().any(|url| self.is_here(url)) {
            return Ok(());
        }
        Err(format!(
            "it is served at {}, not below BACKEND_API_BASE_URL",
            own.join(" or ")
        ))
    }

    fn is_here(&self, url: &str) -> bool {
        if self.urls.iter().any(|known| same(known, url)) {
            return true;
        }
        let Some(base) = &self.base else {
            return false;
        };
        match Url::parse(url) {
            Ok(absolute) => same(absolute.as_str(), base.as_str()),
            Err(_) => path_of(url) == base.path().trim_end_matches('/'),
        }
    }
}

fn same(url: &str, other: &str) -> bool {
    url.trim_end_matches('/') == other.trim_end_matches('/')
}

/// The URLs of a list of servers, each variable with its default (OpenAPI 3.1 §4.8.5).
fn urls(servers: Node<'_>) -> Vec<String> {
    let servers = servers.items().into_iter().take(MOST_SERVERS);
    servers.filter_map(|server| url(&server.object())).collect()
}

/// The URL of one server; `None` where it has none, or a very long one.
fn url(server: &ObjectNode<'_>) -> Option<String> {
    let is_short = |text: &str| text.len() <= MOST_URL_BYTES;
    let mut url = server.text("url")?.into_owned();
    if let Some(variables) = server.get("variables") {
        for (name, variable) in variables.object().members() {
            let default = variable.get("default").and_then(Node::text);
            let default = default.unwrap_or_default();
            if !is_short(&url) || !is_short(&default) {
                return None;
            }
            url = url.replace(&format!("{{{name}}}"), &default);
        }
    }
    Some(url).filter(|url| is_short(url))
}

fn swagger_urls(document: Document<'_>) -> Vec<String> {
    let text = |name| document.root(name).and_then(Node::text);
    let path = text("basePath").unwrap_or_default();
    let schemes: Option<Vec<String>> = document.root("schemes").and_then(Node::read);
    match text("host") {
        Some(host) => schemes
            .unwrap_or_else(|| vec!["https".to_owned()])
            .into_iter()
            .take(MOST_SERVERS)
            .map(|scheme| format!("{scheme}://{host}{path}"))
            .collect(),
        None if path.is_empty() => Vec::new(),
        None => vec![path.into_owned()],
    }
}

/// The path of a server's URL, without a slash at its end.
fn path_of(url: &str) -> String {
    let path = match Url::parse(url) {
        Ok(url) => url.path().to_owned(),
        // Relative to the description, of which nobody knows where it was.
        Err(_) => format!("/{}", url.trim_start_matches(['.', '/'])),
    };
    path.trim_end_matches('/').to_owned()
}
