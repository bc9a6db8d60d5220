//! The topology of the main test: an edge host, and an external registry that holds every image.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::canary_secrets::EXTERNAL_PASSWORD;
use crate::docker_registry::Account;
use crate::site::Site;
use crate::source_registry::SourceRegistry;
use crate::user_data::{External, UserData};

/// The account of the external registry.
pub const ACCOUNT: Account<'static> = Account {
    user: "builder",
    password: EXTERNAL_PASSWORD,
};

/// An external registry with content, and a host whose user-data names it.
#[derive(Debug)]
pub struct Topology {
    pub source: SourceRegistry,
    pub site: Site,
    domain: String,
}

impl Topology {
    /// Starts both.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn start() -> Topology {
        Topology::new(SourceRegistry::start(Some(ACCOUNT), "landfall/", |_| true))
    }

    /// Returns a new host for an existing external registry.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn new(source: SourceRegistry) -> Topology {
        Topology::of(source, Site::new())
    }

    /// Returns this host with an existing external registry.
    #[must_use]
    pub fn of(source: SourceRegistry, site: Site) -> Topology {
        let domain = format!("{}/landfall", source.registry.host());
        let topology = Topology { source, site, domain };
        topology.write_user_data(|user_data| user_data);
        topology
    }

    /// Replaces the host by one with nothing on it, and keeps the registry.
    #[must_use]
    pub fn with_new_site(self) -> Topology {
        Topology::new(self.source)
    }

    /// Writes the user-data again, with a change to the correct one.
    pub fn write_user_data<'a>(&'a self, change: impl FnOnce(UserData<'a>) -> UserData<'a>) {
        self.site.write_user_data(change(self.user_data_of(&self.site)));
    }

    /// Returns the user-data of a host that pulls from the external registry.
    #[must_use]
    pub fn user_data_of(&self, site: &Site) -> UserData<'_> {
        let external = External {
            domain: &self.domain,
            account: ACCOUNT,
            authority: Some(self.source.authority.pem()),
        };
        UserData {
            external: Some(external),
            ..site.user_data()
        }
    }

    /// Returns the external registry as user-data names it.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the path of an image below `<primary>/` ([spec:resolution.external], [spec:resolution.port],
    /// [spec:resolution.primary]).
    #[must_use]
    pub fn primary_repository(&self, name: &str) -> String {
        format!("spectro-images/{}/{name}", self.domain.replacen(':', "_", 1))
    }

    /// Returns the rows of `landfall plan -o json`, by canonical source.
    ///
    /// # Panics
    /// Panics if the plan has errors.
    #[must_use]
    pub fn plan(&self) -> BTreeMap<String, Value> {
        let text = self.site.run(&["plan", "-o", "json"]).succeeded().stdout();
        let plan: Value = serde_json::from_str(&text).expect("a plan is JSON");
        let rows = plan["images"].as_array().expect("a plan lists images");
        rows.iter()
            .map(|row| {
                (
                    row["canonical"].as_str().expect("an image has a name").to_owned(),
                    row.clone(),
                )
            })
            .collect()
    }
}
