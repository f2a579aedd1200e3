//! The index follows the objects, and leaves nothing behind.

use dns::index::{Found, Index};
use dns::records::records_of;
use hickory_proto::rr::{LowerName, Name, RecordType};
use proptest::prelude::*;
use serde_json::json;

use crate::server::{service, slice, start, summary};

#[tokio::test]
async fn answers_follow_changes() {
    let server = start(Vec::new()).await;
    server.cluster.add_namespace("shop");
    let name = "db.shop.svc.cluster.local.";
    let check = async |expected: &str| assert_eq!(summary(&server.ask(name, RecordType::A).await), expected);
    server.slice("shop", "db", json!([{"addresses": ["10.244.0.6"]}]));
    check("NXDOMAIN:  | SOA").await;
    server.service("shop", "db", json!({"clusterIP": "None"}));
    check("NOERROR: A 10.244.0.6 | ").await;
    server.slice("shop", "db", json!([{"addresses": ["10.244.0.8"]}]));
    check("NOERROR: A 10.244.0.8 | ").await;
    assert_eq!(
        summary(&server.ask("6.0.244.10.in-addr.arpa.", RecordType::PTR).await),
        "REFUSED:  | ",
        "the old address has no name any more"
    );
    server.cluster.remove_slice(&slice("shop", "db", json!([])));
    check("NXDOMAIN:  | SOA").await;
    server.cluster.remove_service("shop", "db");
    server.cluster.remove_namespace("shop");
    let namespace = server.ask("shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(summary(&namespace), "NXDOMAIN:  | SOA");
}

#[derive(Debug, Clone)]
enum Step {
    /// Service, whether headless, addresses of its endpoints.
    Set(u8, bool, Vec<u8>),
    Remove(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let set = (0..4u8, any::<bool>(), prop::collection::vec(0..6u8, 0..4)).prop_map(|(s, h, e)| Step::Set(s, h, e));
    prop::collection::vec(prop_oneof![3 => set, 1 => (0..4u8).prop_map(Step::Remove)], 0..30)
}

proptest! {
    /// Whatever happened before, removing all Services leaves the index as it was made: no name, no reverse record and
    /// no empty ancestor stays.
    #[test]
    fn an_emptied_index_is_as_new(steps in steps()) {
        let zone = Name::from_ascii("cluster.local.").expect("a name");
        let mut index = Index::new(zone.clone());
        let key = |s: u8| ("shop".to_owned(), format!("s{s}"));
        for step in steps {
            match step {
                Step::Set(s, headless, ips) => {
                    let ip = if headless { "None".to_owned() } else { format!("10.96.0.{s}") };
                    let service = service("shop", &format!("s{s}"), json!({"clusterIP": ip}));
                    let endpoints: Vec<_> = ips.iter().map(|i| json!({"addresses": [format!("10.244.0.{i}")]})).collect();
                    let slice = slice("shop", &format!("s{s}"), json!(endpoints));
                    index.set_service(&key(s), records_of(&zone, &service, std::iter::once(&slice)));
                }
                Step::Remove(s) => index.remove_service(&key(s)),
            }
        }
        (0..4).for_each(|s| index.remove_service(&key(s)));
        prop_assert_eq!(index.len(), Index::new(zone.clone()).len());
        let namespace = LowerName::new(&Name::from_ascii("shop.svc.cluster.local.").expect("a name"));
        prop_assert_eq!(index.find(&namespace), Found::Missing);
        for i in 0..6 {
            let ip = format!("10.244.0.{i}").parse().expect("an address");
            prop_assert!(index.reverse(ip).is_empty());
        }
    }
}
