//! A minimal client of the Kubernetes API: JSON in, JSON out, and waiting with a deadline.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::https::{TextResponse, install_crypto_provider};
use crate::poll::try_wait_for_cluster;

const MERGE_PATCH: &str = "application/merge-patch+json";

/// A client with the rights of the user of a kubeconfig.
#[derive(Debug)]
pub struct KubeClient {
    server: String,
    client: Client,
    runtime: Runtime,
}

impl KubeClient {
    /// Reads a kubeconfig of the test cluster, which is JSON.
    ///
    /// # Panics
    /// Panics if the file is not a kubeconfig in JSON.
    #[must_use]
    pub fn of_kubeconfig(path: &Utf8Path) -> KubeClient {
        install_crypto_provider();
        let text = fs_err::read_to_string(path).expect("the test cluster wrote this file");
        let config: Value = serde_json::from_str(&text).expect("the test cluster writes JSON");
        let decode = |value: &Value| {
            STANDARD
                .decode(value.as_str().expect("the test cluster wrote a string"))
                .expect("the test cluster wrote base64")
        };
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let mut identity = decode(&user["client-certificate-data"]);
        identity.extend(decode(&user["client-key-data"]));
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([
                Certificate::from_pem(&decode(&cluster["certificate-authority-data"])).expect("a PEM certificate")
            ])
            .identity(Identity::from_pem(&identity).expect("a PEM certificate and its key"))
            .build()
            .expect("a client with these settings");
        KubeClient {
            server: cluster["server"]
                .as_str()
                .expect("the test cluster wrote a string")
                .to_owned(),
            client,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime on this thread"),
        }
    }

    /// Sends a request. Patches are merge patches.
    ///
    /// # Errors
    /// Returns an error if the server does not answer.
    pub fn request(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::Result<TextResponse> {
        let content = if method == Method::PATCH {
            MERGE_PATCH
        } else {
            "application/json"
        };
        self.send(method, path, content, body.map(ToString::to_string))
    }

    fn send(&self, method: Method, path: &str, content: &str, body: Option<String>) -> reqwest::Result<TextResponse> {
        let mut request = self.client.request(method, format!("{}{path}", self.server));
        if let Some(body) = body {
            request = request.header("content-type", content).body(body);
        }
        self.runtime.block_on(async {
            let response = request.send().await?;
            Ok(TextResponse {
                status: response.status().as_u16(),
                body: response.text().await?,
            })
        })
    }

    /// Returns an object, or `None` if it does not exist.
    #[must_use]
    pub fn try_get(&self, path: &str) -> Option<Value> {
        let answer = self.request(Method::GET, path, None).ok()?;
        // Health checks answer text.
        (answer.status == 200).then(|| serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    /// Returns an object.
    ///
    /// # Panics
    /// Panics if it is not there.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.write(Method::GET, path, None)
    }

    /// Creates an object in a collection and returns it as the API server stored it.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.write(Method::POST, path, Some(object))
    }

    /// Changes an object by a merge patch.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.write(Method::PATCH, path, Some(patch))
    }

    /// Changes an object by a strategic merge patch, which identifies containers by their names.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub fn patch_strategically(&self, path: &str, patch: &Value) -> Value {
        let content = "application/strategic-merge-patch+json";
        expect_success(
            &format!("PATCH {path}"),
            &self.send(Method::PATCH, path, content, Some(patch.to_string())),
        )
    }

    /// Creates an object that is written in YAML.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub fn create_yaml(&self, path: &str, object: &str) -> Value {
        expect_success(
            &format!("POST {path}"),
            &self.send(Method::POST, path, "application/yaml", Some(object.to_owned())),
        )
    }

    /// Replaces an object.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub fn replace(&self, path: &str, object: &Value) -> Value {
        self.write(Method::PUT, path, Some(object))
    }

    /// Deletes an object or a whole collection at once, with all dependents. A missing object is no failure.
    ///
    /// # Panics
    /// Panics if the API server refuses it.
    pub fn delete(&self, path: &str) {
        let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        let answer = self
            .request(Method::DELETE, path, Some(&options))
            .expect("the API server answers");
        assert!(matches!(answer.status, 200 | 202 | 404), "DELETE {path}: {answer:?}");
    }

    /// Creates a namespace and waits until pods can be created in it.
    ///
    /// # Panics
    /// Panics if the API server refuses it, or the deadline passes.
    pub fn create_namespace(&self, name: &str, labels: &Value) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.create("/api/v1/namespaces", &namespace);
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.wait(&account, "a service account in a new namespace", |_| true);
    }

    /// Waits until an object satisfies `reached`.
    ///
    /// # Panics
    /// Panics after the deadline, with the last state of the object.
    pub fn wait(&self, path: &str, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = try_wait_for_cluster(|| {
            last = self.try_get(path);
            last.clone().filter(&reached)
        });
        found.unwrap_or_else(|| panic!("{what}: {path} is {:#}", last.unwrap_or_default()))
    }

    fn write(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let line = format!("{method} {path}");
        expect_success(&line, &self.request(method, path, body))
    }
}

/// Polls a cluster until `look` returns a value, slowly enough not to disturb it.
///
/// # Panics
/// Panics after the deadline, with `what` in the message.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    try_wait_for_cluster(look).unwrap_or_else(|| panic!("{what}: not in time"))
}

fn expect_success(line: &str, answer: &reqwest::Result<TextResponse>) -> Value {
    let answer = answer.as_ref().expect("the API server answers");
    assert!(
        (200..300).contains(&answer.status),
        "{line}: {} {}",
        answer.status,
        answer.body
    );
    answer.json()
}
