//! What runs inside of the cluster's namespaces, as their first process: it starts everything, obeys its standard input,
//! and ends everything when that ends.
//!
//! Its standard output has a line `ok` when the cluster is up and after each command. The only command is `kubelet`, with
//! flags behind it, all separated by tabs: the kubelet is started, or started anew, with these flags.

use std::io::{BufRead as _, Write as _};
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::client::KubeClient;
use super::components::{AUDIT_POLICY, apiserver, controller_manager, etcd, scheduler, tools};
use super::credentials::{Credentials, NODE};
use super::forward::forward;
use super::handle::{ADMIN_KUBECONFIG, COMMAND_KUBELET};
use super::node::{Network, containerd, import_pause_image, kubelet};
use super::remains::Remains;
use crate::https::Caller;
use crate::poll::try_wait_for_cluster;
use crate::port::free_port;
use crate::program::{Program, run};

/// How much of a program's log is shown when it fails.
const LAST_LINES: usize = 25;

struct Machine {
    directory: Utf8PathBuf,
    remains: Remains,
    network: Network,
    credentials: Credentials,
    client: KubeClient,
    kubelet_program: Utf8PathBuf,
    kubelet: Option<Program>,
    /// They end with us.
    _control_plane: Vec<Program>,
}

/// Ends every other process of the namespace, then removes what is outside of it.
struct End(Remains);

impl Drop for End {
    fn drop(&mut self) {
        let mut command = Command::new("sh");
        // All but the first process, which we are, and the sender.
        command.args(["-c", "kill -KILL -1"]);
        drop(run(command));
        self.0.remove();
    }
}

/// Runs a cluster in this directory until standard input ends.
///
/// # Panics
/// When a part of it does not come up, with the end of that part's log.
pub fn run_inside(directory: &Utf8Path) {
    assert_eq!(
        std::process::id(),
        1,
        "`landfall-test-cluster inside` is for `landfall-test-cluster up` and the tests"
    );
    let end = End(Remains::of(directory));
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
    // Whoever does not read any more has closed our input as well.
    drop(std::io::stdout().flush());
}

impl Machine {
    fn start(directory: &Utf8Path, remains: &Remains) -> Machine {
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
        let network = Network::create(remains);
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
            remains: remains.clone(),
            network,
            credentials,
            client,
            kubelet_program,
            kubelet: None,
            _control_plane: programs,
        }
    }

    /// Starts the kubelet, after ending the one before it, and waits until the node is ready by it.
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
            &self.remains,
            flags,
        );
        let mut programs = [Program::start("kubelet", &self.directory, command)];
        let health = format!("http://127.0.0.1:{health_port}/healthz");
        wait_for_one("a healthy kubelet", &mut programs, || {
            Caller::default().get(&health).is_ok_and(|answer| answer.status == 200)
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

/// Programs keep files in places that no flag of theirs changes: shims in `/run`, CNI in `/var/lib`, links to logs in
/// `/var/log`. In this mount namespace these are empty.
fn hide_the_hosts_directories() {
    // Containers' mounts have to be seen where they are made.
    mount(&["--make-rshared", "/"]);
    for directory in ["/run", "/var/lib", "/var/log"] {
        mount(&["-t", "tmpfs", "testbed", directory]);
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
/// When one of them ends before, or the deadline passes; with the end of its log.
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
