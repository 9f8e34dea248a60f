//! The command that compares the deployed bundle's table with the stores' APIs.

use std::{process::Command, time::Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::aws::variable;
use commerce::entity::EntityKey;
use serde_json::Value;
use tests::platforms::{Simulator, Truth};

use crate::{PATIENCE, Stack, root, text};

/// Runs the command for a connection as a whole. Returns its exit code and its report.
pub async fn verified(platform: &str, connection: &str, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(root().join(".local/tools"));
    command.args(["verify", platform, connection, "--full", "--format", "json"]).args(more);
    // The simulated platform answers meanwhile, on this thread.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    (output.status.code().unwrap(), reports[0].clone())
}

/// Asserts that everything here is as the platform shows it.
pub async fn is_equal(platform: &str, connection: &str) {
    let (code, report) = verified(platform, connection, &[]).await;
    assert_eq!((code, &report["result"]), (0, &Value::from("equal")), "{report}");
    // DirectScale shows nothing of orders, and this day has no customers there.
    let some = report["checked"].as_object().is_some_and(|checked| !checked.is_empty());
    assert!(some || platform == "directscale", "{report}");
}

impl Stack {
    /// Alters an entity in the table, which a verification shows and repairs.
    pub async fn damage_is_repaired(&self, simulator: &dyn Simulator, connection: &str) {
        let platform = simulator.platform();
        let (kind, id, _) = simulator.entities().into_iter().find(|(_, _, truth)| *truth == Truth::Api).unwrap();
        let pk = format!("{platform}#{connection}");
        let key = [("pk", pk.clone()), ("sk", format!("{kind}#{id}"))];
        let key = key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
        let request = self.aws.dynamodb().update_item().table_name(variable("ENTITIES_TABLE").unwrap());
        let request = request.set_key(Some(key.into_iter().collect())).update_expression("SET #fields.#it = :it");
        let request = request.expression_attribute_names("#fields", "fields");
        let request = request.expression_attribute_names("#it", "altered_by_hand");
        request.expression_attribute_values(":it", AttributeValue::S("x".into())).send().await.unwrap();

        let (code, report) = verified(platform, connection, &[]).await;
        let row = &report["differences"][0];
        assert_eq!((code, report["differences"].as_array().unwrap().len()), (3, 1), "{report}");
        assert_eq!((&row["entity"], &row["id"]), (&kind.as_str().into(), &id.as_str().into()), "{report}");
        assert_eq!((&row["field"], &row["here"]), (&"altered_by_hand".into(), &"x".into()), "{report}");
        assert_eq!((&row["cause"], &row["there"]), (&"told-and-lost".into(), &Value::Null), "{report}");

        let (code, report) = verified(platform, connection, &["--repair"]).await;
        assert_eq!((code, &report["queued"]), (3, &1.into()), "{report}");
        let entity = EntityKey::of(&cloud::connections::parse_key(&pk).unwrap(), &format!("{kind}#{id}")).unwrap();
        let started = Instant::now();
        loop {
            let item = self.item_of(platform, connection, &entity.sort()).await.unwrap();
            if !item.fields.contains_key("altered_by_hand") {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{item:?}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        is_equal(platform, connection).await;
    }
}
