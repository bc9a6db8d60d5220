//! containerd with its CRI plug-in, as a kubelet uses it. It reads drop-ins and mirror files of
//! `/etc/containerd`, which is another directory in its own mount namespace. Pulls are CRI's `PullImage`.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

use crate::docker_registry::Account;
use crate::go_tool::tool;
use crate::poll::try_wait_for;
use crate::program::Program;

/// Release of containerd that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian's.
    V1_6,
    /// The version in `tests-interop/tools/tools.tsv`.
    V2_4,
}

/// A running containerd; ended by its process id on drop.
#[derive(Debug)]
pub struct CriRuntime {
    program: Program,
    directory: TempDir,
    tokio: Runtime,
}

impl CriRuntime {
    /// Starts containerd with `etc` as its `/etc/containerd`. The main file has this version and imports these
    /// files of `conf.d`.
    ///
    /// # Panics
    /// Panics if it does not answer before the deadline.
    #[must_use]
    pub fn start(release: Release, version: u8, imports: &str, etc: &Utf8Path) -> CriRuntime {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        let config = path.join("config.toml");
        fs_err::write(&config, configuration(path, version, imports)).expect("a file in our own directory");
        let program = match release {
            Release::V1_6 => Utf8PathBuf::from("containerd"),
            Release::V2_4 => tool("containerd"),
        };
        let script = "mount --bind \"$1\" /etc/containerd && exec \"$2\" --config \"$3\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.args([etc, &program, &config]);
        let mut runtime = CriRuntime {
            program: Program::start("containerd", path, command),
            tokio: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            directory,
        };
        let answers = try_wait_for(|| {
            let ended = runtime.program.try_wait().is_some();
            (ended || runtime.answers()).then_some(!ended)
        });
        assert_eq!(
            answers,
            Some(true),
            "{release:?} does not answer\n{}",
            runtime.program.output()
        );
        runtime
    }

    /// Pulls an image as the kubelet does, with the kubelet's login for the image, and returns its ID.
    ///
    /// # Errors
    /// Returns the error of CRI as text.
    pub fn pull(&self, image: &str, login: Option<Account<'_>>) -> Result<String, String> {
        let request = PullImageRequest {
            image: Some(ImageSpec {
                image: image.to_owned(),
            }),
            auth: login.map(|login| AuthConfig {
                username: login.user.to_owned(),
                password: login.password.to_owned(),
            }),
        };
        let answer: Result<PullImageResponse, _> = self.call("PullImage", request);
        answer
            .map(|answer| answer.image_ref)
            .map_err(|status| status.message().to_owned())
    }

    #[must_use]
    pub fn output(&self) -> String {
        self.program.output()
    }

    /// # Panics
    /// Never: the directory was made with a UTF-8 name.
    #[must_use]
    pub fn directory(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("seen at the start")
    }

    fn answers(&self) -> bool {
        self.call::<_, Empty>("ImageFsInfo", Empty {}).is_ok()
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let socket = self.directory().join(SOCKET);
        let path = PathAndQuery::try_from(format!("/runtime.v1.ImageService/{method}")).expect("a path");
        self.tokio.block_on(async {
            let mut client = tonic::client::Grpc::new(connect(socket).await?);
            let ready = client.ready().await;
            ready.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            let answer = client.unary(tonic::Request::new(request), path, ProstCodec::default());
            answer.await.map(tonic::Response::into_inner)
        })
    }
}

const SOCKET: &str = "containerd.sock";

async fn connect(socket: Utf8PathBuf) -> Result<Channel, tonic::Status> {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is not used: the connector always connects to the socket.
    let endpoint = Endpoint::from_static("http://containerd.invalid");
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| tonic::Status::unavailable(error.to_string()))
}

fn configuration(directory: &Utf8Path, version: u8, imports: &str) -> String {
    let socket = directory.join(SOCKET);
    format!(
        "version = {version}\nroot = \"{directory}/root\"\nstate = \"{directory}/state\"\n\
         imports = [\"/etc/containerd/conf.d/{imports}\"]\n\
         disabled_plugins = [\"io.containerd.internal.v1.opt\", \"io.containerd.snapshotter.v1.btrfs\", \
         \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\", \
         \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.internal.v1.tracing\", \"io.containerd.nri.v1.nri\"]\n\
         [grpc]\n  address = \"{socket}\"\n[ttrpc]\n  address = \"{socket}.ttrpc\"\n\
         [debug]\n  address = \"{directory}/debug.sock\"\n"
    )
}

/// The parts of CRI's `runtime.v1` that are used here. Unknown fields are ignored.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthConfig {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
    #[prost(message, optional, tag = "2")]
    auth: Option<AuthConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageResponse {
    #[prost(string, tag = "1")]
    image_ref: String,
}
