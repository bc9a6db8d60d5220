//! `landfall.update`: updates of the hosts [spec:updates.settings].

use serde::Serialize;

use crate::maintenance::MaintenanceWindow;
use crate::repave::RepavePolicy;

/// Rules for updates of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct UpdateSettings {
    /// `approval`, `soak` and `deadlines`, and `pack.drainPods` of the OS pack.
    pub policy: RepavePolicy,
    /// `driver`: the program that writes the image into the other slot.
    pub driver: UpdateDriver,
    /// `windows`: the times at which a host may go down; always.
    pub windows: Vec<MaintenanceWindow>,
}

/// The program that writes an image into the other slot of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateDriver {
    /// `kairos-agent upgrade`.
    #[default]
    Kairos,
    /// `bootc switch`.
    Bootc,
    /// `command`: a program of the user with its arguments.
    Command(Vec<String>),
}
