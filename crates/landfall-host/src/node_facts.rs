//! Facts about the programs on this machine that read our files: containerd and its configuration, the containerd inside
//! K3s and RKE2, and the kubelet's flags. What they mean is decided in [`landfall_core::hostconf`].
//!
//! Files and processes are looked for below the root. `containerd` is run only if the root is that of the running host.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::error_chain;
use landfall_core::hostconf::HostFacts;
use landfall_core::hostconf::containerd_config::{
    ConfigFile, ContainerdFacts, ContainerdRelease, imports_of, pattern_covers,
};
use landfall_core::hostconf::kubelet::PLUGIN;
use landfall_core::hostconf::kubelet_plugin::{
    KubeletFacts, PluginFlags, default_flags, flags_in_arguments, flags_in_text,
};
use landfall_core::hostconf::kubelet_pulls::KubeletConfigFile;
use landfall_core::hostconf::registries::{Generation, generated_main_file};
use landfall_core::settings::Dialect;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::root::HostRoot;

/// The limit for one run of `containerd`: it reads a few files and prints.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10);
/// The largest output and the largest file that is looked at, in bytes. A whole dump has about 15 KiB.
const BYTES_MAX: usize = 1 << 20;
/// The largest number of files of one configuration.
const FILES_MAX: usize = 64;
/// The kubelet's flags for its configuration and for the directory of more of it.
const CONFIG_FLAG: &str = "config";
const DROP_INS_FLAG: &str = "config-dir";
/// Directory in which K3s and RKE2 keep the configuration of their kubelet, below their directory of data.
const DISTRIBUTION_DROP_INS: &str = "agent/etc/kubelet.conf.d";
/// The flag of K3s and RKE2 for their directory of data.
const DATA_FLAG: &str = "data-dir";

/// Looks at the programs that read mirror files.
///
/// `main_file` is containerd's main file. A given release overrides that of the program.
pub async fn find_host_facts(root: &HostRoot, main_file: &Utf8Path, release: Option<ContainerdRelease>) -> HostFacts {
    let given = HostFacts::of_release(release);
    let generation = |dialect, given| match read_text(root, &generated_main_file(dialect)) {
        Ok(Some(text)) => Generation::of_main_file(&text),
        Ok(None) | Err(_) => given,
    };
    HostFacts {
        containerd: find_containerd_of("containerd", root, main_file, release).await,
        k3s: generation(Dialect::K3s, given.k3s),
        rke2: generation(Dialect::Rke2, given.rke2),
    }
}

/// Looks at the configuration of this containerd program.
pub async fn find_containerd_of(
    program: &str,
    root: &HostRoot,
    main_file: &Utf8Path,
    given: Option<ContainerdRelease>,
) -> ContainerdFacts {
    let nothing = |reason: String| ContainerdFacts {
        release: given,
        main_file: main_file.to_owned(),
        ..ContainerdFacts::unknown(reason)
    };
    let files = match read_files(root, main_file) {
        Ok(files) => files,
        Err(reason) => return nothing(reason),
    };
    let (mut release, mut dump) = (given, None);
    if root.is_running_host() {
        let version = run(program, &["--version"], PROGRAM_LIMIT).await.ok();
        release = release.or_else(|| ContainerdRelease::parse(&version?));
        if let (Some(_), false) = (release, files.is_empty()) {
            let arguments = ["--config", main_file.as_str(), "config", "dump"];
            dump = run(program, &arguments, PROGRAM_LIMIT).await.ok();
        }
    }
    if files.is_empty() && release.is_none() {
        return nothing(format!("there is neither `{main_file}` nor a program `containerd`"));
    }
    ContainerdFacts {
        release,
        main_file: main_file.to_owned(),
        files,
        dump,
        unknown: None,
    }
}

/// Reads the main file and all that it imports, in containerd's order; empty if there is no main file.
fn read_files(root: &HostRoot, main_file: &Utf8Path) -> Result<Vec<ConfigFile>, String> {
    let mut files: Vec<ConfigFile> = Vec::new();
    let mut pending = VecDeque::from([main_file.to_owned()]);
    while let Some(path) = pending.pop_front() {
        if files.iter().any(|file| file.path == path) {
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(format!("`{main_file}` imports more than {FILES_MAX} files"));
        }
        let text = match read_text(root, &path) {
            Ok(Some(text)) => text,
            Ok(None) if files.is_empty() => return Ok(files),
            Ok(None) => return Err(format!("the imported `{path}` is missing: containerd does not start")),
            Err(reason) => return Err(reason),
        };
        let file = ConfigFile { path, text };
        for pattern in imports_of(&file)? {
            pending.extend(matches_of(root, &pattern)?);
        }
        files.push(file);
    }
    Ok(files)
}

/// Returns the files that a pattern of `imports` names, in alphabetical order. A name without `*` is itself.
fn matches_of(root: &HostRoot, pattern: &Utf8Path) -> Result<Vec<Utf8PathBuf>, String> {
    if !pattern.as_str().contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let directory = pattern.parent().unwrap_or(Utf8Path::new("/"));
    if directory.as_str().contains('*') {
        return Err(format!(
            "`imports` has `{pattern}`, with `*` in the name of a directory"
        ));
    }
    let mut names = list(root, directory)?;
    names.retain(|path| pattern_covers(pattern, path));
    names.sort();
    Ok(names)
}

/// Lists a directory below the root; empty if it does not exist.
pub(crate) fn list(root: &HostRoot, directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, String> {
    let failed = |error: &dyn std::error::Error| format!("cannot list `{directory}`: {}", error_chain(error));
    let outside = root.join(directory).map_err(|error| failed(&error))?;
    let entries = match fs_err::read_dir(&outside) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.map(|name| directory.join(name)).collect())
}

fn read_text(root: &HostRoot, path: &Utf8Path) -> Result<Option<String>, String> {
    let read = root.read(path);
    let bytes = read.map_err(|error| format!("cannot read `{path}`: {}", error_chain(&error)))?;
    match bytes {
        Some(bytes) if bytes.len() > BYTES_MAX => Err(format!("`{path}` has more than {BYTES_MAX} bytes")),
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None => Ok(None),
    }
}

/// Runs a program, which is killed after `limit`, and returns its standard output.
async fn run(program: &str, arguments: &[&str], limit: Duration) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let read = async {
        let mut text = Vec::new();
        // One byte more than allowed shows that there is more.
        output.take(BYTES_MAX as u64 + 1).read_to_end(&mut text).await?;
        let status = child.wait().await?;
        if !status.success() || text.len() > BYTES_MAX {
            return Err(io::Error::other(format!("`{program}` gave no usable answer: {status}")));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    tokio::time::timeout(limit, read).await?
}

/// Looks at the processes of this machine for a kubelet, and at the files that its flags name. Blocks.
#[must_use]
pub fn find_kubelet(root: &HostRoot) -> KubeletFacts {
    let Some((reader, flags)) = find_flags(root) else {
        return KubeletFacts::NotFound;
    };
    let config = flags
        .config
        .as_deref()
        .and_then(|path| read_text(root, path).ok().flatten());
    let plugin = |directory: &Utf8Path| {
        let path = root.join(&directory.join(PLUGIN));
        path.is_ok_and(|path| fs_err::metadata(path).is_ok_and(|program| program.is_file()))
    };
    KubeletFacts::Found {
        reader,
        has_plugin: flags.bin_directory.as_deref().is_some_and(plugin),
        config,
        flags,
    }
}

/// Reads the files of the kubelet's configuration, in its order: the main file, then the drop-ins by name. Empty if no
/// kubelet runs. Blocks.
#[must_use]
pub fn find_kubelet_config(root: &HostRoot) -> Vec<KubeletConfigFile> {
    let Some(kubelet) = find_process(root) else {
        return Vec::new();
    };
    let (main, drop_ins) = match &kubelet.settings {
        ProcessSettings::Arguments(arguments) => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            (argument(&arguments, CONFIG_FLAG), argument(&arguments, DROP_INS_FLAG))
        }
        ProcessSettings::Texts(texts) => {
            let last = |flag| texts.iter().rev().find_map(|text| kubelet_argument(text, flag));
            // K3s and RKE2 write their own settings as drop-ins.
            let drop_ins = last(DROP_INS_FLAG).unwrap_or_else(|| {
                let data = texts.iter().rev().find_map(|text| data_directory(text));
                let data = data.unwrap_or_else(|| format!("/var/lib/rancher/{}", kubelet.reader).into());
                data.join(DISTRIBUTION_DROP_INS)
            });
            (last(CONFIG_FLAG), Some(drop_ins))
        }
    };
    let mut parts = drop_ins.and_then(|path| list(root, &path).ok()).unwrap_or_default();
    parts.retain(|path| path.extension() == Some("conf"));
    parts.sort();
    let paths = main.into_iter().chain(parts);
    let read = paths.filter_map(|path| {
        let text = read_text(root, &path).ok().flatten()?;
        Some(KubeletConfigFile { path, text })
    });
    read.take(FILES_MAX).collect()
}

/// Returns the value of a kubelet's flag.
fn argument(arguments: &[&str], flag: &str) -> Option<Utf8PathBuf> {
    let mut numbered = arguments.iter().enumerate();
    numbered.find_map(|(at, argument)| {
        let rest = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
        match rest.strip_prefix(flag)? {
            "" => arguments.get(at + 1).map(|value| Utf8PathBuf::from(*value)),
            rest => rest.strip_prefix('=').map(Utf8PathBuf::from),
        }
    })
}

/// Returns the value of a kubelet's flag in the settings of K3s: `kubelet-arg: [FLAG=VALUE]`.
fn kubelet_argument(text: &str, flag: &str) -> Option<Utf8PathBuf> {
    let (wanted, mut from) = (format!("{flag}=/"), 0);
    while let Some(at) = text[from..].find(&wanted).map(|at| from + at) {
        from = at + wanted.len();
        // Another flag ends with the same word, and K3s has a flag of its own with it.
        if text[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '-') {
            continue;
        }
        let value = &text[from - 1..];
        let end = value.find(|letter: char| letter.is_whitespace() || "\"',]".contains(letter));
        return Some(Utf8PathBuf::from(&value[..end.unwrap_or(value.len())]));
    }
    None
}

/// Returns the directory of data that a command line of K3s or RKE2 names, or their configuration: `--data-dir DIR`,
/// `--data-dir=DIR`, `data-dir: DIR`.
fn data_directory(text: &str) -> Option<Utf8PathBuf> {
    let mut parts = text.match_indices(DATA_FLAG).filter_map(|(at, flag)| {
        // A commented line is none, and another flag ends with the same word.
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        let before = line.strip_suffix("--").unwrap_or(line);
        let is_flag = before.is_empty() || before.ends_with(char::is_whitespace);
        let rest = text[at + flag.len()..].trim_start_matches(['=', ':', ' ', '"', '\'']);
        let value = rest.split(|letter: char| letter.is_whitespace() || "\"'".contains(letter));
        let value = value.into_iter().next().filter(|value| value.starts_with('/'))?;
        (is_flag && !line.contains('#')).then(|| Utf8PathBuf::from(value))
    });
    parts.next()
}

/// Returns the program that contains the kubelet, and its flags.
fn find_flags(root: &HostRoot) -> Option<(String, PluginFlags)> {
    let process = find_process(root)?;
    let flags = match &process.settings {
        ProcessSettings::Arguments(arguments) => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            flags_in_arguments(&arguments)
        }
        ProcessSettings::Texts(texts) => {
            let mut flags = default_flags();
            for text in texts {
                flags = flags_in_text(text).or(flags);
            }
            flags
        }
    };
    Some((process.reader, flags))
}

/// A process that contains a kubelet.
struct KubeletProcess {
    /// `kubelet`, `k3s` or `rke2`.
    reader: String,
    settings: ProcessSettings,
}

enum ProcessSettings {
    Arguments(Vec<String>),
    /// The command line of K3s or RKE2, and their files. Later texts count more.
    Texts(Vec<String>),
}

/// Finds the process that contains the kubelet.
fn find_process(root: &HostRoot) -> Option<KubeletProcess> {
    let mut distribution = None;
    for directory in list(root, Utf8Path::new("/proc")).ok()? {
        let is_process = directory
            .file_name()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let Ok(Some(line)) = read_text(root, &directory.join("cmdline")) else {
            continue;
        };
        let arguments: Vec<&str> = line.split('\0').filter(|part| !part.is_empty()).collect();
        // K3s rewrites its arguments to one text.
        let program = arguments.first().and_then(|program| program.split(' ').next());
        match program.and_then(|program| Utf8Path::new(program).file_name()) {
            Some("kubelet") => {
                return Some(KubeletProcess {
                    reader: "kubelet".to_owned(),
                    settings: ProcessSettings::Arguments(arguments.into_iter().map(str::to_owned).collect()),
                });
            }
            Some("k3s") => distribution = Some(("k3s", line.clone())),
            Some("rke2") => distribution = Some(("rke2", line.clone())),
            _ => {}
        }
    }
    // The kubelet of K3s is a part of its process, and RKE2 has none until its containerd runs: the flags are in the
    // configuration.
    let (name, line) = distribution?;
    let directory = Utf8PathBuf::from(format!("/etc/rancher/{name}"));
    let mut texts = vec![line.replace('\0', " ")];
    let parts = list(root, &directory.join("config.yaml.d")).unwrap_or_default();
    for path in std::iter::once(directory.join("config.yaml")).chain(parts) {
        texts.extend(read_text(root, &path).ok().flatten());
    }
    Some(KubeletProcess {
        reader: name.to_owned(),
        settings: ProcessSettings::Texts(texts),
    })
}

#[cfg(test)]
mod tests;
