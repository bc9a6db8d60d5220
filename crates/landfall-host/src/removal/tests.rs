use landfall_testkit::host_fixture::HostFixture;

use super::*;

#[test]
fn link_is_removed_and_its_target_stays() {
    let host = HostFixture::mk();
    host.put("/usr/bin/landfall", 0o755, "program");
    host.link("/usr/libexec/landfall/provider", "/usr/bin/landfall");
    let root = HostRoot::new(host.root());
    let link = Utf8Path::new("/usr/libexec/landfall/provider");
    assert_eq!(read_link(&root, link).unwrap(), Some("/usr/bin/landfall".into()));
    remove_link(&root, link).unwrap();
    assert_eq!(read_link(&root, link).unwrap(), None);
    assert_eq!(host.file("/usr/bin/landfall").content.unwrap(), "program");
    remove_link(&root, link).unwrap();
}

#[test]
fn file_and_missing_directory_are_no_links() {
    let host = HostFixture::mk();
    host.put("/usr/libexec/landfall/provider", 0o755, "program");
    let root = HostRoot::new(host.root());
    for path in ["/usr/libexec/landfall/provider", "/nowhere/provider"] {
        assert_eq!(read_link(&root, Utf8Path::new(path)).unwrap(), None, "{path}");
    }
}

#[test]
fn tree_is_removed_without_what_its_links_lead_to() {
    let host = HostFixture::mk();
    host.put("/mine/keep", 0o600, "the user's");
    host.put("/state/store/blobs/a", 0o600, "blob");
    host.link("/state/store/outside", host.path("/mine").as_str());
    remove_tree(&host.path("/state/store")).unwrap();
    assert!(!host.path("/state/store").exists());
    assert_eq!(host.file("/mine/keep").content.unwrap(), "the user's");
    remove_tree(&host.path("/state/store")).unwrap();
}

#[test]
fn mount_point_is_told_from_a_directory() {
    let host = HostFixture::mk();
    host.put("/state/file", 0o600, "a file");
    assert!(!is_mount_point(&host.path("/state")).unwrap());
    assert!(is_mount_point(Utf8Path::new("/proc")).unwrap());
}
