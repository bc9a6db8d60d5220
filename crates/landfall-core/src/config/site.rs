//! Readers of `landfall.site` and `landfall.update`.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::config::address::report_unusable;
use crate::config::codes;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::maintenance::{MaintenanceWindow, TimeZoneName};
use crate::reference::RegistryHost;
use crate::repave::{Approval, DrainPods, RepavePolicy};
use crate::settings::{SiteSettings, UpdateDriver, UpdateSettings};

/// Reads `landfall.site`, and Palette's switch for sites of several hosts. `root` is the whole user-data.
pub(crate) fn read_site(root: &Node, report: &mut Report) -> SiteSettings {
    let defaults = SiteSettings::default();
    let own = root.at(&["landfall", "site"]);
    let get = |key: &str| own.and_then(|own| own.get(key));
    let port = get("port").and_then(Node::integer);
    SiteSettings {
        enable: root
            .at(&["stylus", "enableMultiNode"])
            .and_then(Node::boolean)
            .unwrap_or(defaults.enable),
        leader: read_text(
            get("leader"),
            "is not the name of a host",
            "write the name of its node, e.g. `edge-1`",
            report,
        ),
        address: read_text(
            get("address"),
            "is not an IP address",
            "write the address of this host, e.g. `10.0.0.5`",
            report,
        ),
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .unwrap_or(defaults.port),
    }
}

/// Reads `landfall.update`.
pub(crate) fn read_update(own: &Node, report: &mut Report) -> UpdateSettings {
    let Some(node) = own.get("update") else {
        return UpdateSettings::default();
    };
    let windows = node.get("windows").map_or(&[][..], Node::items_or_self);
    UpdateSettings {
        policy: read_policy(node),
        driver: read_driver(node, report),
        windows: windows
            .iter()
            .filter_map(|window| read_window(window, report))
            .collect(),
    }
}

fn read_policy(node: &Node) -> RepavePolicy {
    let defaults = RepavePolicy::default();
    let seconds =
        |node: Option<&Node>, default: Duration| node.and_then(Node::seconds).map_or(default, Duration::from_secs);
    let deadline = |key: &str, default: Duration| seconds(node.at(&["deadlines", key]), default);
    RepavePolicy {
        approval: match node.get("approval").and_then(Node::text) {
            Some("auto") => Approval::Auto,
            _ => Approval::Manual,
        },
        soak: seconds(node.get("soak"), defaults.soak),
        prefetch_deadline: deadline("prefetch", defaults.prefetch_deadline),
        preflight_deadline: deadline("preflight", defaults.preflight_deadline),
        drain_deadline: deadline("drain", defaults.drain_deadline),
        upgrade_deadline: deadline("upgrade", defaults.upgrade_deadline),
        reboot_deadline: deadline("reboot", defaults.reboot_deadline),
        gate_deadline: deadline("gate", defaults.gate_deadline),
        ..defaults
    }
}

fn read_driver(node: &Node, report: &mut Report) -> UpdateDriver {
    let words = node.get("command").map_or(&[][..], Node::values);
    let command: Vec<String> = words.iter().filter_map(Node::text).map(str::to_owned).collect();
    let driver = node.get("driver");
    match driver.and_then(Node::text) {
        Some("command") if command.first().is_some_and(|program| program.starts_with('/')) => {
            UpdateDriver::Command(command)
        }
        Some("command") => {
            let place = node.get("command").or(driver).unwrap_or(node);
            report_unusable(
                place,
                "names no program of the driver `command`",
                "write `command: [/usr/local/bin/upgrade]`: the path of the program, and its arguments",
                report,
            );
            UpdateDriver::default()
        }
        other => {
            if let Some(unused) = node.get("command").filter(|_| !command.is_empty()) {
                report_unusable(unused, "is not used", "write `driver: command` beside it", report);
            }
            match other {
                Some("bootc") => UpdateDriver::Bootc,
                _ => UpdateDriver::Kairos,
            }
        }
    }
}

/// Reads a maintenance window; `None` if it cannot be used.
fn read_window(node: &Node, report: &mut Report) -> Option<MaintenanceWindow> {
    let start = node.get("start");
    let hours = node.get("hours").and_then(Node::integer);
    let zone = match node.get("timeZone") {
        Some(place) => read_zone(place, report)?,
        None => TimeZoneName::utc(),
    };
    let (Some(start), Some(hours)) = (start, hours) else {
        report_unusable(
            node,
            "is no maintenance window",
            "write `start: 0 2 * * Sat` and `hours: 4`",
            report,
        );
        return None;
    };
    let parsed = start.text().unwrap_or_default().parse();
    Some(MaintenanceWindow {
        start: parsed
            .map_err(|error| {
                report_unusable(
                    start,
                    &format!("is no time to begin: {error}"),
                    "write minute, hour, day, month and day of the week, e.g. `0 2 * * Sat`",
                    report,
                );
            })
            .ok()?,
        zone,
        hours: u8::try_from(hours).ok()?,
    })
}

fn read_zone(node: &Node, report: &mut Report) -> Option<TimeZoneName> {
    let parsed = node.text().unwrap_or_default().parse::<TimeZoneName>();
    let refused = |error: crate::maintenance::TimeZoneError| {
        let help = match &error.nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "write a name such as `Europe/Berlin`, or `UTC`".to_owned(),
        };
        report_unusable(node, "is no time zone", &help, report);
    };
    parsed.map_err(refused).ok()
}

/// Reads `pack.drainPods` of the OS pack [spec:updates.drain]; `None` if it is missing or unusable.
pub(crate) fn read_drain_pods(values: &Node, report: &mut Report) -> Option<DrainPods> {
    let node = values.at(&["pack", "drainPods"]).filter(|node| !node.is_null())?;
    match node.text() {
        Some("true") => Some(DrainPods::Always),
        Some("false") => Some(DrainPods::Never),
        Some("auto") => Some(DrainPods::Auto),
        _ => {
            report_unusable(
                node,
                "is not `true`, `false` or `auto`",
                "write `drainPods: auto`",
                report,
            );
            None
        }
    }
}

/// Reports an endpoint of the embedded registry that is the address of another host [spec:site.primary]: this host
/// cannot bind it, and only a site has one registry behind one name.
pub(crate) fn check_own_endpoint(node: &Node, endpoint: &RegistryHost, site: &SiteSettings, report: &mut Report) {
    let bare = endpoint.name().trim_start_matches('[').trim_end_matches(']');
    let (Some(own), Ok(address)) = (site.address, bare.parse::<IpAddr>()) else {
        return;
    };
    if site.enable || address == own || address.is_loopback() || address.is_unspecified() {
        return;
    }
    report
        .node(
            &codes::PRIMARY_ELSEWHERE,
            node,
            format!("the embedded registry cannot serve at `{endpoint}`: this host is `{own}`"),
        )
        .help("write this host's address, or let the hosts work as one site with `stylus.enableMultiNode: true`");
}

fn read_text<T: FromStr>(node: Option<&Node>, why: &str, help: &str, report: &mut Report) -> Option<T> {
    let node = node?;
    let text = node.text().filter(|text| !text.is_empty())?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        report_unusable(node, why, help, report);
    }
    parsed
}
