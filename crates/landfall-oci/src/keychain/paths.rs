//! Paths of the login files of docker and podman. Pure: the caller passes the environment.

use camino::{Utf8Path, Utf8PathBuf};

/// Returns the path of docker's file, which `landfall login` writes: `$DOCKER_CONFIG/config.json`, or
/// `~/.docker/config.json`. `None` if the environment names neither.
pub fn docker_config_path(variable: &dyn Fn(&str) -> Option<String>) -> Option<Utf8PathBuf> {
    let named = set(variable, "DOCKER_CONFIG").map(Utf8PathBuf::from);
    let directory = named.or_else(|| Some(Utf8Path::new(&set(variable, "HOME")?).join(".docker")))?;
    Some(directory.join("config.json"))
}

/// Returns all files that may hold logins, in order of precedence: `$REGISTRY_AUTH_FILE`, docker's, podman's for this
/// session, and podman's permanent one (containers-auth.json(5)).
pub fn login_file_paths(variable: &dyn Fn(&str) -> Option<String>, user_id: u32) -> Vec<Utf8PathBuf> {
    let home = set(variable, "HOME").map(Utf8PathBuf::from);
    let runtime = set(variable, "XDG_RUNTIME_DIR").map_or_else(
        || format!("/run/containers/{user_id}/auth.json").into(),
        |directory| Utf8Path::new(&directory).join("containers/auth.json"),
    );
    let config = set(variable, "XDG_CONFIG_HOME")
        .map(Utf8PathBuf::from)
        .or_else(|| Some(home?.join(".config")));
    let named = set(variable, "REGISTRY_AUTH_FILE").map(Utf8PathBuf::from);
    let found = [
        named,
        docker_config_path(variable),
        Some(runtime),
        config.map(|directory| directory.join("containers/auth.json")),
    ];
    found.into_iter().flatten().collect()
}

/// Reads a variable; an empty one counts as unset.
fn set(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_docker_and_podman_keep_them() {
        type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);
        let cases: [Case; 4] = [
            (
                &[("HOME", "/home/ann")],
                &[
                    "/home/ann/.docker/config.json",
                    "/run/containers/1000/auth.json",
                    "/home/ann/.config/containers/auth.json",
                ],
            ),
            (
                &[
                    ("HOME", "/home/ann"),
                    ("DOCKER_CONFIG", "/etc/d"),
                    ("REGISTRY_AUTH_FILE", "/a.json"),
                    ("XDG_RUNTIME_DIR", "/run/user/1000"),
                    ("XDG_CONFIG_HOME", "/c"),
                ],
                &[
                    "/a.json",
                    "/etc/d/config.json",
                    "/run/user/1000/containers/auth.json",
                    "/c/containers/auth.json",
                ],
            ),
            (&[], &["/run/containers/1000/auth.json"]),
            (
                &[("DOCKER_CONFIG", ""), ("HOME", "")],
                &["/run/containers/1000/auth.json"],
            ),
        ];
        for (environment, expected) in cases {
            let variable = |name: &str| {
                let found = environment.iter().find(|(found, _)| *found == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(login_file_paths(&variable, 1000), expected, "{environment:?}");
        }
    }
}
