//! The generated client of containerd's API. `include!` instead of `mod` keeps rustfmt and "go to file" away from the
//! generated text.
#![expect(unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated")]

pub(crate) mod types {
    include!("proto/containerd.types.rs");
}

pub(crate) mod services {
    pub(crate) mod content {
        pub(crate) mod v1 {
            include!("proto/containerd.services.content.v1.rs");
        }
    }
    pub(crate) mod images {
        pub(crate) mod v1 {
            include!("proto/containerd.services.images.v1.rs");
        }
    }
    pub(crate) mod leases {
        pub(crate) mod v1 {
            include!("proto/containerd.services.leases.v1.rs");
        }
    }
    pub(crate) mod namespaces {
        pub(crate) mod v1 {
            include!("proto/containerd.services.namespaces.v1.rs");
        }
    }
    pub(crate) mod version {
        pub(crate) mod v1 {
            include!("proto/containerd.services.version.v1.rs");
        }
    }
}
