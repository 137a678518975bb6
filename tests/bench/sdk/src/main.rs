//! The official Rust SDK with an equivalent tool: `sdk PORT BACKEND`.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde_json::{Value, json};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Arguments {
    /// A path below the base URL.
    endpoint: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Api {
    client: reqwest::Client,
    base: Arc<str>,
}

#[tool_router]
impl Api {
    #[tool(description = "Gets a resource of the API.")]
    async fn api_get_request(
        &self,
        Parameters(Arguments { endpoint, headers }): Parameters<Arguments>,
    ) -> Result<CallToolResult, ErrorData> {
        let internal = |error: reqwest::Error| ErrorData::internal_error(error.to_string(), None);
        let url = format!("{}{endpoint}", self.base);
        let request = self.client.get(&url).bearer_auth("bench");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let answer = request.send().await.map_err(internal)?;
        let status = answer.status();
        let data: Value = answer.json().await.map_err(internal)?;
        Ok(CallToolResult::structured(
            json!({"success": status.is_success(), "status": status.as_u16(), "endpoint": url, "data": data}),
        ))
    }
}

#[tool_handler]
impl ServerHandler for Api {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (port, base) = (arguments.next().unwrap(), arguments.next().unwrap());
    let api = Api {
        client: reqwest::Client::new(),
        base: base.into(),
    };
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = false;
    config.json_response = true;
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(api.clone()), sessions, config);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service))
        .await
        .unwrap();
}
