//! The throwaway cluster keeps its own promises.

use mire_cluster::{Cluster, Error, PoolMode, shared};

#[test]
fn a_crash_loses_nothing_committed_and_keeps_the_port() {
    let cluster = Cluster::start().unwrap();
    cluster
        .sql("mire", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
        .unwrap();
    let (port, pid) = (cluster.port(), cluster.pid());
    cluster.crash().unwrap();
    assert_eq!(cluster.sql("mire", "SELECT * FROM t").unwrap(), "1\n");
    assert_eq!(cluster.port(), port);
    assert_ne!(cluster.pid(), pid);
    cluster.restart().unwrap();
    cluster.assert_clean_log(&[]);
}

#[test]
fn a_dropped_cluster_leaves_nothing_behind() {
    let cluster = Cluster::builder()
        .bare()
        .setting("shared_buffers", "16MB")
        .start()
        .unwrap();
    assert_eq!(
        cluster.sql("postgres", "SHOW shared_buffers").unwrap(),
        "16MB\n"
    );
    let (folder, pid) = (cluster.folder().to_path_buf(), cluster.pid().unwrap());
    drop(cluster);
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_killed_cluster_leaves_no_shared_memory_behind() {
    let cluster = Cluster::builder().bare().start().unwrap();
    let state = std::fs::read_to_string(cluster.data().join("postmaster.pid")).unwrap();
    let segment = state
        .lines()
        .nth(6)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    let exists = || {
        let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        all.lines()
            .any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    assert!(exists());
    cluster.kill().unwrap();
    drop(cluster);
    assert!(!exists());
}

#[test]
fn a_kept_log_can_be_checked_with_its_expectations_when_the_cluster_is_gone() {
    let kept = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder()
        .bare()
        .collect_log(kept.path())
        .start()
        .unwrap();
    let name = cluster.folder().file_name().unwrap().to_owned();
    cluster
        .expect_in_log("due to administrator command")
        .unwrap();
    cluster
        .sql("postgres", "SELECT pg_terminate_backend(pg_backend_pid())")
        .unwrap_err();
    drop(cluster);
    let log = kept.path().join(name).with_extension("log");
    assert!(std::fs::read_to_string(&log).unwrap().contains("FATAL"));
    mire_cluster::check_log_file(&log).unwrap();
    std::fs::remove_file(log.with_extension("expected")).unwrap();
    assert!(matches!(
        mire_cluster::check_log_file(&log),
        Err(Error::UncleanLog { .. })
    ));
}

#[test]
fn a_terminated_backend_is_an_unclean_log_unless_expected() {
    let cluster = Cluster::builder().bare().start().unwrap();
    let kill_myself = cluster.sql("postgres", "SELECT pg_terminate_backend(pg_backend_pid())");
    assert!(matches!(kill_myself, Err(Error::Failed { .. })));
    assert!(matches!(
        cluster.check_log(&[]),
        Err(Error::UncleanLog { .. })
    ));
    cluster.assert_clean_log(&["due to administrator command"]);
    cluster
        .expect_in_log("due to administrator command")
        .unwrap();
    cluster.assert_clean_log(&[]);
}

#[test]
fn pgbouncer_lets_every_role_in() {
    let database = shared().fresh_database().unwrap();
    let role = format!("role_{}", database.name);
    database.sql(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let bouncer = shared().pgbouncer(PoolMode::Transaction).unwrap();
    let mut psql = shared().command("psql");
    let out = psql
        .args([
            "-X",
            "-At",
            "-c",
            "SELECT current_user",
            &bouncer.url_as(&role, &database.name),
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout).trim(),
        role,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    drop(bouncer);
    database.sql(&format!("DROP ROLE {role}")).unwrap();
}

#[test]
fn fresh_databases_have_the_extension_and_are_apart() {
    let (one, two) = (
        shared().fresh_database().unwrap(),
        shared().fresh_database().unwrap(),
    );
    one.sql("CREATE TABLE only_here ()").unwrap();
    assert!(two.sql("SELECT FROM only_here").is_err());
    let installed = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_mire'";
    assert_eq!(two.sql(installed).unwrap(), "1\n");
}

#[test]
fn a_lent_cluster_cannot_be_taken_down_by_a_borrower() {
    // Only meaningful in a run where one is lent; else the cluster is ours and this is not the test of it.
    if std::env::var_os(mire_cluster::SHARED_CLUSTER).is_some() {
        assert!(matches!(shared().crash(), Err(Error::Shared { .. })));
    }
}
