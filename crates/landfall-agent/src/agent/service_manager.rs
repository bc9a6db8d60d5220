//! Notifications to systemd: ready, status, watchdog, stopping.

use landfall_host::notify::{ServiceState, notify, watchdog_interval};

use crate::supervisor::Supervisor;

/// Notifies the service manager, if there is one. A failure is logged and has no other effect.
pub(crate) fn notify_service_manager(state: ServiceState<'_>) {
    if let Err(error) = notify(state) {
        tracing::warn!(%error, "cannot report the state to the service manager");
    }
}

/// Notifies the watchdog regularly, if the unit asks for it.
pub(crate) fn supervise_watchdog(supervisor: &Supervisor) {
    let Some(interval) = watchdog_interval() else { return };
    supervisor.supervise("watchdog", |stop| async move {
        let mut ticks = tokio::time::interval(interval);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            notify_service_manager(ServiceState::Watchdog);
        }
        Ok(())
    });
}
