//! The store from its door: what is answered is on disk, what is damaged is left alone, who reads does not disturb.

use super::*;
use crate::model::twin::TwinProperty;
use serde_json::json;

fn pod(name: &str, uid: &str) -> (ObjectKey, Value) {
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "5"}, "unknown": {"kept": true}});
    (ObjectKey::namespaced(Kind::Pod, "default", name), object)
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edgecore.db");
    (dir, path)
}

#[tokio::test]
async fn objects_survive_a_restart_and_changes_are_told() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let mut changes = store.changes();
    let (key, object) = pod("a", "u1");
    assert!(store.put_object(&key, &object).await.unwrap());
    assert!(!store.put_object(&key, &object).await.unwrap(), "the same object is no change");
    assert_eq!(changes.try_recv().unwrap(), key);
    assert!(changes.try_recv().is_err());
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.object(&key).await.unwrap(), Some(object.clone()));
    assert_eq!(store.objects(Kind::Pod).await.unwrap(), vec![(key, object)]);
    assert!(store.objects(Kind::Secret).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_was_overtaken_changes_nothing() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let at = |uid: &str, revision: &str| {
        let (key, mut object) = pod("a", uid);
        object["metadata"]["resourceVersion"] = json!(revision);
        (key, object)
    };
    let (key, pushed) = at("u1", "10");
    let (in_time, overtaken) = (|| false, || true);
    assert_eq!(store.put_answer(&key, pushed.clone(), overtaken).await.unwrap(), pushed);
    assert_eq!(store.object(&key).await.unwrap(), None, "it is given, and not kept");
    store.put_object(&key, &pushed).await.unwrap();
    let mut changes = store.changes();
    assert_eq!(store.put_answer(&key, at("u2", "11").1, overtaken).await.unwrap(), pushed);
    assert_eq!(
        store.put_answer(&key, at("u1", "9").1, in_time).await.unwrap(),
        pushed,
        "as numbers, not as text"
    );
    assert_eq!(store.put_answer(&key, pushed.clone(), in_time).await.unwrap(), pushed);
    assert!(changes.try_recv().is_err());
    for newer in [at("u1", "11").1, at("u2", "3").1, json!({"data": {}}), at("u1", "1").1] {
        assert_eq!(store.put_answer(&key, newer.clone(), in_time).await.unwrap(), newer);
        assert_eq!(store.object(&key).await.unwrap(), Some(newer));
        assert_eq!(changes.recv().await.unwrap(), key);
    }
    // What the cloud pushes holds in any case: its records may have been restored from a backup.
    let (_, restored) = at("u1", "0");
    assert!(store.put_object(&key, &restored).await.unwrap());
}

#[tokio::test]
async fn a_pod_of_another_uid_is_not_deleted() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let (key, object) = pod("a", "new");
    store.put_object(&key, &object).await.unwrap();
    assert!(!store.delete_object(&key, Some("old")).await.unwrap());
    assert!(store.object(&key).await.unwrap().is_some());
    assert!(store.delete_object(&key, Some("new")).await.unwrap());
    assert!(!store.delete_object(&key, None).await.unwrap(), "a second time there is nothing to delete");
    assert!(Reader::open(&path).unwrap().meta_v2().unwrap().is_empty());
}

#[tokio::test]
async fn many_writers_share_commits() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let mut crew = crate::base::Crew::new();
    for n in 0..300 {
        let store = store.clone();
        crew.spawn(async move {
            let (key, object) = pod(&format!("p{n}"), "u");
            assert!(store.put_object(&key, &object).await.unwrap());
            assert!(store.object(&key).await.unwrap().is_some(), "what was answered can be read");
        });
    }
    crew.finish().await;
    assert_eq!(store.objects(Kind::Pod).await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_the_file() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let failure = Store::open(&path).err().unwrap();
    assert_eq!(failure.code, "KE-STORE-002");
    failure.is_as_committed();
    assert!(failure.why.contains(&std::process::id().to_string()), "{failure}");
    drop(store);
    assert!(Store::open(&path).is_ok());
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_is() {
    let (_dir, path) = place();
    for content in [vec![7_u8; 8192], b"SQLite format 3\0 and then nonsense".repeat(200)] {
        std::fs::write(&path, &content).unwrap();
        let failure = Store::open(&path).err().unwrap();
        assert_eq!(failure.code, "KE-STORE-001");
        failure.is_as_committed();
        assert!(
            failure.what.contains("edgecore.db") && failure.fix.contains("sets the file aside"),
            "{failure}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_page_overwritten_in_the_middle_is_found() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    for n in 0..200 {
        let (key, object) = pod(&format!("p{n}"), "u");
        store.put_object(&key, &object).await.unwrap();
    }
    drop(store);
    let mut content = std::fs::read(&path).unwrap();
    let middle = content.len() / 2 / 4096 * 4096;
    content[middle..middle + 4096].fill(0xAA);
    std::fs::write(&path, &content).unwrap();
    assert_eq!(Store::open(&path).err().unwrap().committed().code, "KE-STORE-001");
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_store_recovers() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let limit = |pages: i64| {
        store.write(move |db| {
            db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))?;
            Ok(((), None))
        })
    };
    limit(1).await.unwrap();
    let mut changes = store.changes();
    let key = ObjectKey::namespaced(Kind::ConfigMap, "default", "big");
    let object = json!({"data": {"x": "x".repeat(1 << 18)}});
    let failure = store.put_object(&key, &object).await.unwrap_err();
    assert_eq!(failure.code, "KE-STORE-003");
    failure.is_as_committed();
    assert_eq!(store.object(&key).await.unwrap(), None);
    assert!(changes.try_recv().is_err());
    limit(1 << 20).await.unwrap();
    assert!(store.put_object(&key, &object).await.unwrap());
    assert_eq!(store.object(&key).await.unwrap(), Some(object));
}

#[tokio::test]
async fn a_failing_job_does_not_take_its_neighbours_along() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let (key, object) = pod("a", "u");
    let (wrong, right) = tokio::join!(
        store.write(|db| {
            db.execute("INSERT INTO target_urls (url) VALUES ('half')", [])?;
            db.execute("INSERT INTO nowhere VALUES (1)", []).map(|_| ((), None))
        }),
        store.put_object(&key, &object)
    );
    assert_eq!(wrong.unwrap_err().committed().code, "KE-STORE-004");
    assert!(right.unwrap());
    let halves: i64 = store
        .read(|db| db.query_row("SELECT count(*) FROM target_urls", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(halves, 0);
}

#[tokio::test]
async fn devices_and_twins_keep_their_rows() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let id = DeviceId::new("lab", "t1");
    let mut device = DeviceRow::new(id.clone());
    let row = TwinRow::from_property("temperature", &TwinProperty::default());
    let put = |device: &DeviceRow, row: &TwinRow| DeviceChange {
        devices: vec![device.clone()],
        twins: vec![(device.id.clone(), row.clone())],
        ..DeviceChange::default()
    };
    store.change_devices(put(&device, &row)).await.unwrap();
    let changed = TwinRow { actual: Some("21".into()), ..row };
    device.state = "online".into();
    store.change_devices(put(&device, &changed)).await.unwrap();
    assert_eq!(store.twins(&id).await.unwrap(), vec![changed]);
    assert_eq!(store.devices().await.unwrap(), vec![device.clone()]);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.device(&id).unwrap(), Some(device));
    let twins_gone = vec![(id.clone(), "temperature".to_owned())];
    store.change_devices(DeviceChange { twins_gone, ..DeviceChange::default() }).await.unwrap();
    assert!(reader.twins(&id).unwrap().is_empty());
    store.change_devices(DeviceChange { devices_gone: vec![id], ..DeviceChange::default() }).await.unwrap();
    assert!(reader.devices().unwrap().is_empty());
}

#[tokio::test]
async fn modules_keep_small_state() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    store.put_state("pod", "b", &json!(2)).await.unwrap();
    store.put_state("pod", "a", &json!({"n": 1})).await.unwrap();
    store.put_state("outbox", "a", &json!(3)).await.unwrap();
    store.delete_state("pod", "b").await.unwrap();
    assert_eq!(store.states("pod").await.unwrap(), vec![("a".to_owned(), json!({"n": 1}))]);
    assert_eq!(store.state("outbox", "a").await.unwrap(), Some(json!(3)));
    assert_eq!(store.state("outbox", "zz").await.unwrap(), None);
}

#[tokio::test]
async fn a_database_of_kubeedge_1_22_is_read_taken_over_and_given_back() {
    let (_dir, path) = place();
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        r#"CREATE TABLE meta (`key` varchar(256) NOT NULL PRIMARY KEY, `type` varchar(32), `value` text);
           CREATE TABLE meta_v2 (`key` varchar(256) NOT NULL PRIMARY KEY,
             `groupversionresource` varchar(256) NOT NULL DEFAULT '', `namespace` varchar(256), `name` varchar(256),
             `resourceversion` integer NOT NULL DEFAULT 0, `value` text);
           INSERT INTO meta VALUES ('default/pod/a', 'pod', '{"metadata":{"uid":"u"}}');
           INSERT INTO meta VALUES ('default/podpatch/a', 'podpatch', 'not json');
           INSERT INTO meta_v2 VALUES ('/core/v1/pods/default/a', '/v1, Resource=pods', 'default', 'a', 9, '{}');"#,
    )
    .unwrap();
    drop(db);
    let expected = MetaV2Row {
        key: "/core/v1/pods/default/a".into(),
        group_version_resource: "/v1, Resource=pods".into(),
        resource_version: 9,
    };
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.meta_v2().unwrap(), vec![expected.clone()]);
    assert_eq!(reader.rows(None).unwrap().len(), 2);
    assert!(reader.devices().unwrap().is_empty());
    drop(reader);
    let store = Store::open(&path).unwrap();
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "b", "namespace": "default", "resourceVersion": "12"}});
    store.put_object(&ObjectKey::namespaced(Kind::Pod, "default", "b"), &object).await.unwrap();
    drop(store);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.meta_v2().unwrap()[0], expected);
    assert_eq!(reader.objects(Kind::Pod).unwrap().len(), 2);

    // The edgecore that has the file back finds our row in its own columns, and replaces one as it always did.
    let db = Connection::open(&path).unwrap();
    let own =
        "SELECT groupversionresource, resourceversion FROM meta_v2 WHERE key = '/core/v1/pods/default/b'";
    let found = db.query_row(own, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    assert_eq!(found.unwrap(), ("/v1, Resource=pods".to_owned(), 12));
    db.execute_batch(
        "INSERT OR REPLACE INTO meta_v2 (key, groupversionresource, namespace, name, resourceversion, value)
         VALUES ('/core/v1/pods/default/a', '/v1, Resource=pods', 'default', 'a', 10, '{}')",
    )
    .unwrap();
    drop(db);
    drop(Store::open(&path).unwrap());
    let rows = Reader::open(&path).unwrap().meta_v2().unwrap();
    let revisions: Vec<u64> = rows.iter().map(|row| row.resource_version).collect();
    assert_eq!(revisions, [10, 12]);
}

#[tokio::test]
async fn reading_works_beside_a_writer_and_leaves_a_stopped_store_alone() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let (key, object) = pod("a", "u");
    store.put_object(&key, &object).await.unwrap();
    assert_eq!(Reader::open(&path).unwrap().object(&key).unwrap(), Some(object.clone()));
    drop(store);
    assert_eq!(Reader::open(&path).unwrap().object(&key).unwrap(), Some(object));
    let missing = Reader::open(path.with_file_name("none.db")).err().unwrap();
    assert_eq!(missing.code, "KE-STORE-006");
    missing.is_as_committed();
}

#[test]
fn nobody_but_the_owner_reads_it_even_where_another_daemon_made_it_for_everybody() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = place();
    let files = || {
        let mut found: Vec<(String, u32)> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.path().ends_with("edgecore.db.lock"))
            .map(|entry| {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                (entry.file_name().into_string().unwrap(), mode)
            })
            .collect();
        found.sort();
        found
    };
    let private = ["edgecore.db", "edgecore.db-shm", "edgecore.db-wal"].map(|name| (name.to_owned(), 0o600));
    let store = Store::open(&path).unwrap();
    assert_eq!(files(), private);
    // As an edgecore leaves it that was killed.
    for (name, _) in files() {
        std::fs::copy(dir.path().join(&name), dir.path().join(name.clone() + ".kept")).unwrap();
    }
    drop(store);
    for (name, _) in &private {
        std::fs::rename(dir.path().join(name.clone() + ".kept"), dir.path().join(name)).unwrap();
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let _store = Store::open(&path).unwrap();
    assert_eq!(files(), private);
}
