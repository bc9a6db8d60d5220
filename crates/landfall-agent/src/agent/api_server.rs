//! Where the status API listens.

use landfall_core::config::Settings;
use landfall_net::serve::Http;

use crate::agent::listeners::{Server, bind};
use crate::agent::reconciler::Reconciler;
use crate::api::{ApiState, api_router};

impl Reconciler {
    /// Serves the status API at the address that the settings give; moves it when that changed.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub(super) async fn ensure_api(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let address = match &settings.landfall.listen {
            Some(listen) => listen.clone(),
            None => format!("127.0.0.1:{}", settings.local_ui_port),
        };
        if self.api.as_ref().is_some_and(|server| server.started_with == address) {
            return Ok(());
        }
        // The old address may be a part of the new one (loopback of all), which then is free only when it is.
        if let Some(old) = self.api.take() {
            old.stop().await;
        }
        let listener = match self.listeners.status.take() {
            Some(bound) => bound,
            None => bind(&address, "`landfall.listen` or `stylus.localUI.port`").await?,
        };
        let router = api_router(ApiState {
            status: self.host.status.clone(),
            metrics: self.host.metrics.clone(),
            state_dir: self.host.state_dir.clone(),
        });
        tracing::info!(address = %listener.local_addr()?, "status API listens");
        self.api = Some(Server::start(
            &self.host.supervisor,
            "status-api",
            address,
            listener,
            None,
            Http::Plain(router),
        ));
        Ok(())
    }
}
