use landfall_testkit::host_fixture::HostFixture;

use super::*;

fn root_of(host: &HostFixture) -> HostRoot {
    HostRoot::new(host.root())
}

fn read(host: &HostFixture, path: &str) -> Result<Option<String>, RootError> {
    let content = root_of(host).read(Utf8Path::new(path))?;
    Ok(content.map(|content| String::from_utf8(content).unwrap()))
}

#[test]
fn a_path_with_parent_components_is_refused() {
    let host = HostFixture::mk();
    for path in ["../etc/passwd", "/etc/../../secret", "a/.."] {
        let error = read(&host, path).unwrap_err();
        assert!(matches!(error, RootError::Parent { .. }), "{path}: {error}");
        assert!(root_of(&host).join(Utf8Path::new(path)).is_err(), "{path}");
    }
}

#[test]
fn a_path_without_a_file_name_is_refused() {
    let host = HostFixture::mk();
    for path in ["", "/", "."] {
        assert!(matches!(read(&host, path), Err(RootError::NoFile { .. })), "{path:?}");
    }
}

#[test]
fn links_are_followed_with_the_root_as_their_slash() {
    let outside = HostFixture::mk();
    outside.put("secret", 0o600, "outside");
    let host = HostFixture::mk();
    host.put("/run/real/file", 0o644, "inside");
    host.put("/secret", 0o644, "decoy");
    let table = [
        ("absolute", "/run/real", "absolute/file", Some("inside")),
        ("relative", "run/real", "relative/file", Some("inside")),
        ("a/b/up", "../../run/real/file", "a/b/up", Some("inside")),
        ("chain", "/absolute/file", "chain", Some("inside")),
        // The parent of the root is the root.
        ("climb", "../../../../../../../../secret", "climb", Some("decoy")),
        ("dangling", "/nowhere/file", "dangling", None),
    ];
    for (link, target, path, content) in table {
        host.link(link, target);
        assert_eq!(read(&host, path).unwrap().as_deref(), content, "{link} -> {target}");
    }
    host.link("out", outside.path("secret").as_str());
    assert_eq!(
        read(&host, "out").unwrap(),
        None,
        "an absolute link to the outside leads nowhere"
    );
    host.link("far", outside.root().as_str());
    assert_eq!(read(&host, "far/secret").unwrap(), None, "nor does a directory");
}

#[test]
fn a_loop_of_links_ends() {
    let host = HostFixture::mk();
    host.link("one", "two");
    host.link("two", "one");
    insta::assert_snapshot!(read(&host, "one/file").unwrap_err(), @"cannot reach `one/file`: too many symbolic links");
}

#[test]
fn a_file_on_the_way_is_named() {
    let host = HostFixture::mk();
    host.put("etc", 0o644, "not a directory");
    insta::assert_snapshot!(
        read(&host, "/etc/containerd/config.toml").unwrap_err(),
        @"cannot reach `/etc/containerd/config.toml` at `etc`"
    );
}

#[test]
fn a_missing_file_is_none() {
    let host = HostFixture::mk();
    assert_eq!(read(&host, "/etc/landfall/none").unwrap(), None);
}

#[test]
fn only_the_slash_is_the_running_host() {
    assert!(HostRoot::new("/").is_running_host());
    assert!(!HostRoot::new("/mnt").is_running_host());
    assert_eq!(
        HostRoot::new("/mnt").join(Utf8Path::new("/etc/hosts")).unwrap(),
        "/mnt/etc/hosts"
    );
}
