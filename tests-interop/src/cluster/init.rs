//! The first process of the cluster's namespaces. It starts everything, reads commands from standard input, and
//! ends everything at the end of its input.
//!
//! It prints a line `ok` when the cluster is up and after each command. The only command is `kubelet` with
//! flags, separated by tabs: it starts or restarts the kubelet with these flags.

use std::io::{BufRead as _, Write as _};
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::client::KubeClient;
use super::components::{AUDIT_POLICY, apiserver, controller_manager, etcd, scheduler, tools};
use super::credentials::{Credentials, NODE};
use super::handle::{ADMIN_KUBECONFIG, COMMAND_KUBELET};
use super::host_resources::HostResources;
use super::node::{Network, containerd, import_pause_image, kubelet};
use super::port_forward::forward;
use crate::https::HttpsClient;
use crate::poll::try_wait_for_cluster;
use crate::port::free_port;
use crate::program::{Program, run};

/// Number of lines of a program's log that a failure shows.
const LAST_LINES: usize = 25;

struct Machine {
    directory: Utf8PathBuf,
    host_resources: HostResources,
    network: Network,
    credentials: Credentials,
    client: KubeClient,
    kubelet_program: Utf8PathBuf,
    kubelet: Option<Program>,
    /// Kept for their drop: they end with this process.
    _control_plane: Vec<Program>,
}

/// Kills every other process of the namespace on drop, then removes the resources outside of it.
struct End(HostResources);

impl Drop for End {
    fn drop(&mut self) {
        let mut command = Command::new("sh");
        // The signal goes to all processes except the first one, which is this one, and the sender.
        command.args(["-c", "kill -KILL -1"]);
        drop(run(command));
        self.0.remove();
    }
}

/// Runs a cluster in this directory until the end of standard input.
///
/// # Panics
/// Panics if a part of it does not come up, with the end of that part's log.
pub fn run_inside(directory: &Utf8Path) {
    assert_eq!(
        std::process::id(),
        1,
        "`landfall-test-cluster inside` is for `landfall-test-cluster up` and the tests"
    );
    let end = End(HostResources::of(directory));
    let mut machine = Machine::start(directory, &end.0);
    answer();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is a pipe");
        let mut words = line.split('\t');
        match words.next() {
            Some(COMMAND_KUBELET) => machine.start_kubelet(&words.collect::<Vec<_>>()),
            _ => break,
        }
        answer();
    }
    drop(machine);
    drop(end);
}

#[expect(clippy::print_stdout, reason = "the answer to whoever gave the command")]
fn answer() {
    println!("ok");
    // A reader that has gone has closed the input as well.
    drop(std::io::stdout().flush());
}

impl Machine {
    fn start(directory: &Utf8Path, host_resources: &HostResources) -> Machine {
        hide_the_hosts_directories();
        let [
            etcd_program,
            apiserver_program,
            controllers,
            scheduler_program,
            kubelet_program,
            containerd_program,
            shim,
        ] = tools([
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "containerd",
            "containerd-shim-runc-v2",
        ]);
        let (api_port, etcd_port) = (free_port(), free_port());
        let network = Network::create(host_resources);
        let address_for_pods = network.api_server_address();
        let credentials = Credentials::write(&directory.join("credentials"), api_port, &address_for_pods);
        forward(&format!("{address_for_pods}:443"), format!("127.0.0.1:{api_port}"));
        fs_err::write(directory.join("audit-policy.json"), AUDIT_POLICY).expect("a file in our own directory");
        let node = directory.join("containerd");
        fs_err::create_dir_all(&node).expect("a directory of our own");

        let mut programs = vec![
            Program::start("etcd", directory, etcd(&etcd_program, directory, etcd_port)),
            Program::start(
                "kube-apiserver",
                directory,
                apiserver(
                    &apiserver_program,
                    &credentials,
                    api_port,
                    etcd_port,
                    directory,
                    &network,
                ),
            ),
            Program::start(
                "containerd",
                directory,
                containerd(&containerd_program, &shim, &node, &network),
            ),
        ];
        let client = KubeClient::of_kubeconfig(&credentials.path(ADMIN_KUBECONFIG));
        wait_for_one("kube-apiserver ready", &mut programs, || {
            client.try_get("/readyz").is_some()
        });
        programs.push(Program::start(
            "kube-controller-manager",
            directory,
            controller_manager(&controllers, &credentials),
        ));
        programs.push(Program::start(
            "kube-scheduler",
            directory,
            scheduler(&scheduler_program, &credentials),
        ));
        let import = import_pause_image(&node);
        wait_for_one("the pause image in containerd", &mut programs, || {
            run(import()).code() == Some(0)
        });
        wait_for_one("the service account of the namespace `default`", &mut programs, || {
            client
                .try_get("/api/v1/namespaces/default/serviceaccounts/default")
                .is_some()
        });
        Machine {
            directory: directory.to_owned(),
            host_resources: host_resources.clone(),
            network,
            credentials,
            client,
            kubelet_program,
            kubelet: None,
            _control_plane: programs,
        }
    }

    /// Stops the previous kubelet, starts a new one, and waits until the node is ready.
    fn start_kubelet(&mut self, flags: &[&str]) {
        self.kubelet = None;
        let directory = self.directory.join("kubelet");
        fs_err::create_dir_all(&directory).expect("a directory of our own");
        let resolver = directory.join("resolv.conf");
        fs_err::write(&resolver, "").expect("a file in our own directory");
        let (command, health_port) = kubelet(
            &self.kubelet_program,
            &directory,
            &self.credentials,
            &self.network,
            &self.host_resources,
            flags,
        );
        let mut programs = [Program::start("kubelet", &self.directory, command)];
        let health = format!("http://127.0.0.1:{health_port}/healthz");
        wait_for_one("a healthy kubelet", &mut programs, || {
            HttpsClient::default()
                .get(&health)
                .is_ok_and(|answer| answer.status == 200)
        });
        let client = &self.client;
        wait_for_one("a ready node", &mut programs, || {
            client.try_get(&format!("/api/v1/nodes/{NODE}")).is_some_and(|node| {
                let conditions = node["status"]["conditions"].as_array();
                let ready =
                    |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
                conditions.is_some_and(|conditions| conditions.iter().any(ready)) && node["spec"]["taints"].is_null()
            })
        });
        self.kubelet = programs.into_iter().next();
    }
}

/// Mounts empty file systems over directories whose paths no flag changes: `/run` (shims), `/var/lib` (CNI),
/// `/var/log` (links to logs).
fn hide_the_hosts_directories() {
    // Mounts of containers must be visible in the namespace in which they are made.
    mount(&["--make-rshared", "/"]);
    for directory in ["/run", "/var/lib", "/var/log"] {
        mount(&["-t", "tmpfs", "test-cluster", directory]);
    }
}

fn mount(arguments: &[&str]) {
    let mut command = Command::new("mount");
    command.args(arguments);
    drop(run(command).succeeded());
}

/// Waits for a condition that these programs bring about.
///
/// # Panics
/// Panics if one of them ends before, or the deadline passes; with the end of its log.
fn wait_for_one(what: &str, programs: &mut [Program], mut reached: impl FnMut() -> bool) {
    let came = try_wait_for_cluster(|| {
        if reached() {
            return Some(());
        }
        for program in programs.iter_mut() {
            if let Some(status) = program.try_wait() {
                panic!("{what}: a program ended with {status}:\n{}", last_lines(program));
            }
        }
        None
    });
    if came.is_none() {
        let logs: Vec<String> = programs.iter().map(last_lines).collect();
        panic!("{what}: not in time\n{}", logs.join("\n"));
    }
}

fn last_lines(program: &Program) -> String {
    let stderr = program.stderr();
    let lines: Vec<&str> = stderr.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
