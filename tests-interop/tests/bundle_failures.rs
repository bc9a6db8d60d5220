//! Everything that goes wrong with bundles on the way and at the site. Each case has a test; those that need real disks and
//! programs are here, in `bundle_kills.rs` and in `offline_site.rs`.
//!
//! | case | file | test |
//! |---|---|---|
//! | piece missing, doubled, foreign, cut short | `crates/landfall-core/src/bundle/pieces/tests.rs` | `a_set_with_gaps_or_doubles_names_them` |
//! | `_part9000` after `_part89` | `crates/landfall-core/src/bundle/pieces/tests.rs` | `numbers_widen_as_those_of_split` |
//! | pieces swapped | `crates/landfall-oci/tests/damaged_archives.rs` | `wrong_pieces_are_found_by_name_size_or_content` |
//! | piece missing, with its name in the message | `crates/landfall/tests/bundle.rs` | `a_copy_in_pieces_is_the_same_bundle` |
//! | bit flipped in head, glue, table, blob | `crates/landfall-oci/src/bundle/tests.rs` | `each_damaged_byte_is_found_and_its_part_is_named` |
//! | bit flipped while it is served | `crates/landfall-oci/src/bundle/tests/read_only.rs` | `a_flipped_bit_in_a_bundle_never_reaches_a_client_as_a_whole_blob` |
//! | bit flipped, repaired from a patch | `crates/landfall/tests/bundle.rs` | `what_is_damaged_is_named_listed_and_repaired` |
//! | file cut short, longer, or another one | `crates/landfall-oci/src/bundle/tests.rs` | `a_file_that_is_cut_short_or_longer_is_not_taken_for_a_bundle` |
//! | signature stripped, foreign, retired | `crates/landfall-core/src/bundle/trust/tests.rs` | `only_a_good_signature_of_a_key_in_use_is_trusted` |
//! | key rotated | `crates/landfall-oci/src/bundle/signature/tests.rs` | `a_new_key_comes_with_the_signature_of_an_old_one_in_any_order` |
//! | unsigned bundle at a host with a key | `crates/landfall-agent/tests/bundles.rs` | `refused_bundles_name_their_reason_and_nothing_is_taken_from_them` |
//! | older sequence | `crates/landfall-agent/tests/bundles.rs` | `an_older_bundle_of_a_series_is_refused_until_its_followed_hint_brings_a_newer_one_or_allows_it` |
//! | base of a delta absent | `crates/landfall-agent/tests/bundles.rs` | `needs_that_the_site_lacks_are_found_before_the_first_write_and_the_followed_hint_brings_them` |
//! | base of a delta present and damaged | `crates/landfall/tests/bundle.rs` | `a_base_that_is_damaged_at_the_site_is_found_before_the_first_write_and_brought_again` |
//! | disk full: create | `tests-interop/tests/bundle_kills.rs` | `a_create_on_a_full_disk_says_so_and_goes_on_when_there_is_room` |
//! | disk full: copy | `tests-interop/tests/bundle_kills.rs` | `a_copy_to_a_full_disk_says_so_and_goes_on_when_there_is_room` |
//! | no inodes: create, copy | `tests-interop/tests/bundle_kills.rs` | `a_disk_without_inodes_is_called_full_and_gets_the_file_when_there_are_some` |
//! | disk full, no inodes: load | `tests-interop/tests/bundle_failures.rs` | `a_load_into_a_full_disk_says_so_and_goes_on_when_there_is_room` |
//! | disk full: adopt | `tests-interop/tests/offline_site.rs` | `pods_start_off_a_stick_while_the_disk_is_full_and_it_may_be_pulled_and_come_back` |
//! | no inodes: adopt | `tests-interop/tests/bundle_failures.rs` | `an_adoption_without_inodes_says_so_and_goes_on_when_there_are_some` |
//! | `kill -9`: create | `tests-interop/tests/bundle_kills.rs` | `a_killed_create_is_resumed_to_the_same_bytes_without_moving_a_blob_twice` |
//! | `kill -9`: copy | `tests-interop/tests/bundle_kills.rs` | `a_killed_copy_is_resumed_to_the_same_bytes_and_copies_64_mib_again_at_most` |
//! | `kill -9`: adopt | `tests-interop/tests/bundle_kills.rs` | `a_killed_adoption_has_what_it_said_to_have_and_goes_on_with_the_rest` |
//! | stick pulled while a pod reads it | `crates/landfall-oci/tests/content.rs` | `a_read_ends_when_its_place_is_removed_or_its_medium_is_pulled` |
//! | file cut while it is served | `crates/landfall-oci/src/bundle/tests/read_only.rs` | `a_bundle_that_is_cut_while_it_is_served_fails_and_does_not_panic` |
//! | stick pulled during the adoption, and back | `tests-interop/tests/offline_site.rs` | `pods_start_off_a_stick_while_the_disk_is_full_and_it_may_be_pulled_and_come_back` |
//! | file deleted during the adoption | `crates/landfall-agent/tests/bundles_in_place.rs` | `pods_are_sent_to_a_bundle_that_is_still_being_copied_and_their_images_come_next` |
//! | stick that holds less than it claims | `tests-interop/tests/bundle_failures.rs` | `a_stick_that_holds_less_than_it_claims_is_found_by_the_copy` |
//! | stick that cannot be written | `tests-interop/tests/offline_site.rs` | `a_squashfs_in_a_partition_with_our_label_is_a_stick` |
//! | layer of more than 8 GiB | `crates/landfall-oci/src/bundle/tests/sizes.rs` | `a_layer_of_more_than_8_gib_is_found_to_its_last_byte` |
//! | 10,000 blobs | `crates/landfall-oci/src/bundle/tests/sizes.rs` | `ten_thousand_blobs_are_packed_verified_and_loaded` |
//! | SHA-512 | `crates/landfall-oci/src/bundle/tests/sizes.rs` | `blobs_with_sha512_are_packed_verified_and_loaded` |
//! | zstd bomb, window of 2^31 | `crates/landfall-oci/src/bundle/tests/hostile.rs` | `a_head_with_a_window_of_gibibytes_or_of_many_zeros_takes_no_memory` |
//! | sizes of 2^63 | `crates/landfall-oci/src/bundle/tests/hostile.rs` | `claimed_sizes_are_held_against_the_file_before_anything_is_done_with_them` |
//! | names: `..`, absolute, NUL, doubled | `crates/landfall-oci/src/bundle/tests/hostile.rs` | `names_that_lead_elsewhere_stay_names` |
//! | links and devices in archives | `crates/landfall-oci/tests/damaged_archives.rs` | `hostile_archives_are_refused_in_every_form` |
//! | index in a circle | `crates/landfall-oci/src/bundle/tests/hostile.rs` | `indexes_in_a_circle_end_as_wrong_bytes` |
//! | index without other platforms | `crates/landfall-agent/tests/bundles.rs` | `an_index_without_other_platforms_is_adopted_under_its_digest` |
//! | bundle behind a link: create, copy, verify | `tests-interop/tests/bundle_kills.rs` | `a_link_to_a_bundle_is_followed_and_stays` |
//! | bundle behind a link, two files with one name: adopt | `crates/landfall-agent/tests/bundles.rs` | `two_files_with_one_content_are_one_bundle_and_of_two_with_one_name_the_newer_wins` |
//! | clock of 1970 | `tests-interop/tests/bundle_kills.rs` | `a_clock_of_1970_changes_nothing` |
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use camino::Utf8Path;
use landfall_oci::store::ContentStore;
use landfall_testkit::image_builder::FixtureBuilder;
use landfall_tests_interop::agent::{landfall, run_landfall};
use landfall_tests_interop::bundle::{BundleDesk, NAMES, TILL};
use landfall_tests_interop::images::noise;
use landfall_tests_interop::offline_host::OfflineHost;
use landfall_tests_interop::port::free_port;
use landfall_tests_interop::program::{Finished, run};
use landfall_tests_interop::small_disk::SmallDisk;
use landfall_tests_interop::stick::Stick;
use rustix::fs::{FallocateFlags, fallocate};

const MIB: u64 = 1024 * 1024;

#[test]
fn every_case_of_the_table_has_its_test() {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let own = fs_err::read_to_string(root.join("tests-interop/tests/bundle_failures.rs")).unwrap();
    let rows = own.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    let mut count = 0;
    for row in rows {
        let mut cells = row.rsplit('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        let (test, file) = (cells.next().unwrap(), cells.next().unwrap());
        let text = fs_err::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(&format!("fn {test}(")), "{row}");
        count += 1;
    }
    assert!(count > 40, "{count} rows");
}

/// Asserts that a command failed because there was no room, and that it said so, with one thing to do.
fn assert_no_room(failed: &Finished) {
    assert!(failed.code().is_some_and(|code| code != 0), "{failed}");
    let told = format!("{}{}", failed.stdout(), failed.stderr()).to_lowercase();
    assert!(told.contains("no space left") || told.contains("no room"), "{failed}");
    assert!(told.contains("free space"), "{failed}");
}

fn load(bundle: &Utf8Path, root: &Utf8Path) -> Finished {
    let arguments = [
        "bundle",
        "load",
        bundle.as_str(),
        "--root",
        root.as_str(),
        "--progress",
        "none",
    ];
    run_landfall(&arguments)
}

/// Returns the number of the desk's images that a store has whole.
fn stored(root: &Utf8Path) -> usize {
    let Ok(store) = ContentStore::open(&root.join("store")) else {
        return 0;
    };
    let is_whole = |name: &str| {
        let image = store.image(&name.parse().unwrap());
        image.is_some_and(|image| matches!(store.is_complete(&image.digest), Ok(true)))
    };
    NAMES.iter().filter(|(name, ..)| is_whole(name)).count()
}

#[test]
fn a_load_into_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let desk = BundleDesk::new();
    let bundle = desk.bundle("shop.tar.zst", &[]);
    for (small, large) in [("size=2m", "size=64m"), ("size=64m,nr_inodes=16", "nr_inodes=1000")] {
        let disk = SmallDisk::mount(small);
        let root = disk.path().join("state");
        assert_no_room(&load(&bundle, &root));
        let before = stored(&root);
        assert!(before < NAMES.len(), "{small}: {before} images");
        disk.remount(large);
        drop(load(&bundle, &root).succeeded());
        assert_eq!(stored(&root), NAMES.len(), "{small}");
    }
}

#[test]
fn an_adoption_without_inodes_says_so_and_goes_on_when_there_are_some() {
    let desk = BundleDesk::new();
    let bundle = desk.bundle("shop.tar.zst", &[]);
    // Room for the files of an agent, and not for all blobs.
    let disk = SmallDisk::mount("size=64m,nr_inodes=30");
    let state = disk.path().join("state");
    let content = desk.path("root/opt/spectrocloud/content");
    fs_err::create_dir_all(&content).unwrap();
    fs_err::copy(&bundle, content.join("shop.tar.zst")).unwrap();
    let (user_data, profile) = (desk.path("user-data.yaml"), desk.path("profile.yaml"));
    let text = format!(
        "#cloud-config\nstylus:\n  imageRedirectWebhook: {{enable: false}}\nlandfall:\n  listen: 127.0.0.1:{}\n  containerd: \
         {{enable: false}}\n  primary: {{endpoint: '127.0.0.1:{}'}}\n",
        free_port(),
        free_port()
    );
    fs_err::write(&user_data, text).unwrap();
    fs_err::write(&profile, "metadata: {name: shop}\nspec: {template: {packs: []}}\n").unwrap();
    let agent = || {
        let mut arguments = vec![
            "agent",
            "--once",
            "--user-data",
            user_data.as_str(),
            "--profile",
            profile.as_str(),
        ];
        let root = desk.path("root");
        arguments.extend(["--root", root.as_str(), "--state-dir", state.as_str()]);
        run(landfall(&arguments))
    };
    let failed = agent();
    let before = stored(&state);
    assert!(before < NAMES.len(), "{before} images\n{failed}");
    let status = run_landfall(&["status", "--state-dir", state.as_str()]);
    let told = format!("{}{}", failed.stderr(), status.stdout()).to_lowercase();
    assert!(
        told.contains("no space left") || told.contains("no room"),
        "{failed}\n{status}"
    );
    disk.remount("nr_inodes=1000");
    drop(agent().succeeded());
    assert_eq!(stored(&state), NAMES.len());
}

#[test]
fn a_stick_that_holds_less_than_it_claims_is_found_by_the_copy() {
    let desk = BundleDesk::new();
    let large = noise("large", 40 << 20);
    let image = FixtureBuilder::new().plain_layer(&[("large", &large)]).build();
    desk.registry.add_image("shop/large", "1", &image);
    let list = format!("{}/shop/large:1 {TILL}\n", desk.registry.host());
    fs_err::write(desk.path("images.txt"), list).unwrap();
    let bundle = desk.bundle("large.tar.zst", &[]);
    let host = OfflineHost::new();
    let stick = Stick::partitioned(&host.path("stick.img"), 128 * MIB, "LANDFALL");
    let media = host.path("media");
    fs_err::create_dir_all(&media).unwrap();
    drop(host.line(&format!("mount {} {media}", stick.device())).succeeded());
    let (is_over, disk) = (
        AtomicBool::new(false),
        fs_err::OpenOptions::new().write(true).open(stick.file()).unwrap(),
    );
    let copied = thread::scope(|scope| {
        // What is written behind the true capacity is lost soon after.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(disk.file(), punch, 24 * MIB, 104 * MIB).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let copied = host.landfall(&["bundle", "copy", bundle.as_str(), media.as_str(), "--progress", "none"]);
        is_over.store(true, Ordering::Relaxed);
        copied
    });
    assert_eq!(copied.code(), Some(2), "{copied}");
    let message = copied.stderr();
    assert!(
        message.contains("not as they were written") && message.contains("hint: "),
        "{copied}"
    );
    assert!(
        !media.join("large.tar.zst").exists(),
        "a copy that is lost has no final name"
    );
    let left = host.line(&format!("ls {media}")).succeeded().stdout();
    assert!(!left.lines().any(|name| name == "large.tar.zst"), "{left}");
    drop(host.line(&format!("umount -l {media}")).succeeded());
}
