//! An HTTP client for JSON.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

/// An HTTP client of one server.
#[derive(Clone, Debug)]
pub struct Http {
    base_url: String,
    token: Option<String>,
    client: Client,
}

/// The server's answer.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, unparsed.
    pub text: String,
}

impl Http {
    /// Makes a client of the server at `base_url`, such as `http://127.0.0.1:8080`.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            token: None,
            client: Client::new(),
        }
    }

    /// Returns the client with `Authorization: Bearer` in each request.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sends a `GET`. `path` begins with a slash and may have a query, already percent-encoded.
    pub async fn get(&self, path: &str) -> HttpReply {
        self.send(self.client.get(self.url(path))).await
    }

    /// Sends a `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> HttpReply {
        self.send(self.client.post(self.url(path)).json(body)).await
    }

    /// The URL of a path, for requests that this client has no method for.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    async fn send(&self, request: RequestBuilder) -> HttpReply {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("no HTTP answer: {error:?}"));
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let text = response
            .text()
            .await
            .unwrap_or_else(|error| panic!("no HTTP body: {error:?}"));
        HttpReply {
            status,
            headers,
            text,
        }
    }
}

impl HttpReply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| {
            panic!("not JSON ({error}), status {}: {}", self.status, self.text)
        })
    }

    /// The first header with this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}
