//! containerd with its CRI plug-in, as a kubelet uses it. It reads drop-ins and mirror files of
//! `/etc/containerd`, which is another directory in its own mount namespace. Pulls are CRI's `PullImage`.

use std::collections::BTreeMap;
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
use crate::offline_host::OfflineHost;
use crate::poll::try_wait_for;
use crate::program::{Program, run};

/// Release of containerd that runs: Debian's 1.6, the others with the versions of `tests-interop/tools/tools.tsv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    V1_6,
    V1_7,
    V2_0,
    V2_4,
}

impl Release {
    /// Returns the program.
    #[must_use]
    pub fn program(self) -> Utf8PathBuf {
        match self {
            Release::V1_6 => Utf8PathBuf::from("containerd"),
            Release::V1_7 => tool("containerd-1.7"),
            Release::V2_0 => tool("containerd-2.0"),
            Release::V2_4 => tool("containerd"),
        }
    }

    /// Returns the first two numbers of the version.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Release::V1_6 => "1.6",
            Release::V1_7 => "1.7",
            Release::V2_0 => "2.0",
            Release::V2_4 => "2.4",
        }
    }
}

/// The name of the main file in `/etc/containerd`.
pub const MAIN_FILE: &str = "config.toml";

/// The directory of a containerd, and the main file that leads to it. A test may add to the file before the start.
#[derive(Debug)]
pub struct RuntimeDirectory(TempDir);

impl RuntimeDirectory {
    /// Writes the main file into `etc`, in this version of the format and with these lines at its top.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
    #[must_use]
    pub fn new(version: u8, top: &str, etc: &Utf8Path) -> RuntimeDirectory {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        fs_err::create_dir_all(etc).expect("a directory below our own");
        fs_err::write(etc.join(MAIN_FILE), configuration(path, version, top)).expect("a file in our own directory");
        RuntimeDirectory(directory)
    }
}

/// Adds tables to the main file in `etc`.
///
/// # Panics
/// Panics if the file cannot be read or written.
pub fn add_to_main_file(etc: &Utf8Path, text: &str) {
    let path = etc.join(MAIN_FILE);
    let main = fs_err::read_to_string(&path).expect("a main file");
    fs_err::write(&path, format!("{main}{text}")).expect("a file in our own directory");
}

/// Makes the command that runs containerd on its main file, with `etc` as `/etc/containerd` in a mount namespace.
fn containerd_on(release: Release, etc: &Utf8Path, arguments: &[&str]) -> Command {
    let script = "mount --bind \"$1\" /etc/containerd && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.args([etc, &release.program()]);
    command
        .arg("--config")
        .arg(Utf8Path::new("/etc/containerd").join(MAIN_FILE));
    command.args(arguments);
    command
}

/// Returns the configuration in effect, as containerd prints it.
///
/// # Panics
/// Panics if containerd refuses its configuration.
#[must_use]
pub fn dump(release: Release, etc: &Utf8Path) -> String {
    run(containerd_on(release, etc, &["config", "dump"]))
        .succeeded()
        .stdout()
}

/// A running containerd; ended by its process id on drop.
#[derive(Debug)]
pub struct CriRuntime {
    program: Program,
    directory: TempDir,
    tokio: Runtime,
}

impl CriRuntime {
    /// Starts containerd with `etc` as its `/etc/containerd`.
    ///
    /// # Panics
    /// Panics if it does not answer before the deadline.
    #[must_use]
    pub fn start(release: Release, directory: RuntimeDirectory, etc: &Utf8Path) -> CriRuntime {
        CriRuntime::start_by(release, directory, containerd_on(release, etc, &[]))
    }

    /// Starts containerd on a host whose `/etc/containerd` has the main file.
    ///
    /// # Panics
    /// Panics if it does not answer before the deadline.
    #[must_use]
    pub fn start_on(host: &OfflineHost, release: Release, directory: RuntimeDirectory) -> CriRuntime {
        let main_file = Utf8Path::new("/etc/containerd").join(MAIN_FILE);
        let mut command = Command::new(release.program());
        command.args(["--config", main_file.as_str()]);
        CriRuntime::start_by(release, directory, host.inside(&command))
    }

    fn start_by(release: Release, directory: RuntimeDirectory, command: Command) -> CriRuntime {
        let directory = directory.0;
        let path = Utf8Path::from_path(directory.path()).expect("seen when it was made");
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

    /// Returns the path of the socket.
    #[must_use]
    pub fn socket(&self) -> Utf8PathBuf {
        self.directory().join(SOCKET)
    }

    /// Returns the images of the namespace `k8s.io` by their names, with their states, as `ctr` checks them.
    ///
    /// # Panics
    /// Panics if `ctr` fails.
    #[must_use]
    pub fn images(&self) -> BTreeMap<String, String> {
        let mut command = Command::new(tool("ctr"));
        let socket = self.socket();
        command.args(["--address", socket.as_str(), "--namespace", "k8s.io", "images", "check"]);
        let table = run(command).succeeded().stdout();
        // REF TYPE DIGEST STATUS …
        let row = |line: &str| {
            let mut columns = line.split_whitespace();
            Some((columns.next()?.to_owned(), columns.nth(2)?.to_owned()))
        };
        table.lines().skip(1).filter_map(row).collect()
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
        let socket = self.socket();
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

fn configuration(directory: &Utf8Path, version: u8, top: &str) -> String {
    let socket = directory.join(SOCKET);
    format!(
        "version = {version}\nroot = \"{directory}/root\"\nstate = \"{directory}/state\"\n\
         {top}\
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
