//! What systemd is told: that we are up, what we are doing, that we are alive, that we are ending.

use landfall_host::notify::{ServiceState, notify, watchdog_interval};

use crate::supervisor::Supervisor;

/// Tells the service manager, where there is one. That it cannot be told changes nothing about our work.
pub(crate) fn notify_service_manager(state: ServiceState<'_>) {
    if let Err(error) = notify(state) {
        tracing::warn!(%error, "cannot tell the service manager how we are");
    }
}

/// Says regularly that we are alive, where the unit asks for it.
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
