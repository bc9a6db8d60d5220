//! Readers of addresses and registry paths below `landfall`. Wrong values are reported here, before the agent binds.

use crate::config::codes;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::listen::complete_listen_address;
use crate::reference::{RegistryHost, Repository};
use crate::settings::TokenServer;

/// Reads a listen address, `host:port`; `None` if it is missing or unusable.
pub(crate) fn read_listen(node: Option<&Node>, report: &mut Report) -> Option<String> {
    let (node, text) = given(node)?;
    let address = complete_listen_address(text);
    let has_port = |host: RegistryHost| host.port().is_some();
    if address.parse::<RegistryHost>().is_ok_and(has_port) {
        return Some(address.into_owned());
    }
    report_unusable(
        node,
        "is not `host:port`",
        "write e.g. `127.0.0.1:5080`, or `[::1]:5080`",
        report,
    );
    None
}

/// Reads a listen host, whose port is another setting; `None` if it is missing or unusable.
pub(crate) fn read_listen_host(node: Option<&Node>, report: &mut Report) -> Option<String> {
    let (node, text) = given(node)?;
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = if bare.contains(':') {
        format!("[{bare}]:1")
    } else {
        format!("{bare}:1")
    };
    if with_port.parse::<RegistryHost>().is_ok() {
        return Some(text.to_owned());
    }
    report_unusable(
        node,
        "is not a host without a port",
        "write e.g. `127.0.0.1`; the port is `stylus.imageRedirectWebhook.port`",
        report,
    );
    None
}

/// Reads a token server and its registry, `REGISTRY=SERVER`; `None` if it is missing or unusable.
pub(crate) fn read_token_server(node: &Node, report: &mut Report) -> Option<TokenServer> {
    let (node, text) = given(Some(node))?;
    let read = text.parse().ok();
    if read.is_none() {
        report_unusable(
            node,
            "is not `REGISTRY=SERVER`",
            "write e.g. `registry.example.com=auth.example.org`",
            report,
        );
    }
    read
}

/// Reads the project of the primary registry; `None` if it is missing or unusable.
pub(crate) fn read_project(node: Option<&Node>, report: &mut Report) -> Option<String> {
    let (node, text) = given(node)?;
    let project = text.trim_matches('/');
    if project.is_empty() {
        return None;
    }
    if project.parse::<Repository>().is_ok() {
        return Some(project.to_owned());
    }
    report_unusable(
        node,
        "cannot be part of a repository's name",
        "write it in lower case, with letters, digits, `-`, `_` and `.`, e.g. `spectro-images`",
        report,
    );
    None
}

fn given(node: Option<&Node>) -> Option<(&Node, &str)> {
    let node = node?;
    let text = node.text().filter(|text| !text.is_empty())?;
    Some((node, text))
}

/// Reports a value that cannot be used. `why` is the problem, and `help` is the correct form.
pub(crate) fn report_unusable(node: &Node, why: &str, help: &str, report: &mut Report) {
    report
        .node(&codes::BAD_SETTING, node, format!("`{}` {why}", node.path()))
        .help(help);
}
