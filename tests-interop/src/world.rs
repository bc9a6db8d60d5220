//! The topology of the main test: an edge host with an external registry that holds everything.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::canary::EXTERNAL_PASSWORD;
use crate::docker_registry::Account;
use crate::site::Site;
use crate::source::SourceRegistry;
use crate::user_data::{External, UserData};

/// The account of the external registry.
pub const ACCOUNT: Account<'static> = Account {
    user: "builder",
    password: EXTERNAL_PASSWORD,
};

/// A filled external registry and a host whose user-data names it.
#[derive(Debug)]
pub struct World {
    /// The external registry.
    pub source: SourceRegistry,
    /// The host.
    pub site: Site,
    domain: String,
}

impl World {
    /// Starts both.
    ///
    /// # Panics
    /// When a program is missing or fails.
    #[must_use]
    pub fn start() -> World {
        World::new(SourceRegistry::start(Some(ACCOUNT), "landfall/", |_| true))
    }

    /// A new host before an external registry that is there already.
    ///
    /// # Panics
    /// When a program is missing or fails.
    #[must_use]
    pub fn new(source: SourceRegistry) -> World {
        World::of(source, Site::new())
    }

    /// This host before an external registry that is there already.
    #[must_use]
    pub fn of(source: SourceRegistry, site: Site) -> World {
        let domain = format!("{}/landfall", source.registry.host());
        let world = World { source, site, domain };
        world.write_user_data(|user_data| user_data);
        world
    }

    /// The same registry, and a host with nothing on it.
    #[must_use]
    pub fn with_new_site(self) -> World {
        World::new(self.source)
    }

    /// Writes the user-data anew, as `change` makes it from the right one.
    pub fn write_user_data<'a>(&'a self, change: impl FnOnce(UserData<'a>) -> UserData<'a>) {
        self.site.write_user_data(change(self.user_data_of(&self.site)));
    }

    /// The user-data of a host that pulls from the external registry.
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

    /// The external registry as user-data names it.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Where an image stands below `<primary>/`, by SPEC section 5, rules 2, 5 and 6.
    #[must_use]
    pub fn primary_repository(&self, name: &str) -> String {
        format!("spectro-images/{}/{name}", self.domain.replacen(':', "_", 1))
    }

    /// The rows of `landfall plan -o json`, by canonical source.
    ///
    /// # Panics
    /// When the plan has errors.
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
