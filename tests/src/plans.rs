//! Plans of the statements that run inside our functions, taken from the real calls through `auto_explain`.

use std::sync::{Arc, Mutex};

use postgres::{Client, Config, NoTls};
use serde_json::Value;

/// A session whose every statement, nested ones too, tells its plan and what it cost.
pub struct Explained {
    /// The session itself.
    pub client: Client,
    notices: Arc<Mutex<Vec<String>>>,
}

/// A statement that touched one of our tables.
#[derive(Debug)]
pub struct Statement {
    /// Its text.
    pub query: String,
    /// Its plan, as EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) has it.
    pub plan: Value,
}

impl Explained {
    /// Connects as the superuser, who may load the module.
    ///
    /// # Panics
    /// When the server has no `auto_explain`.
    #[must_use]
    pub fn connect(url: &str) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        let mut config: Config = url.parse().unwrap();
        config
            .notice_callback(move |notice| heard.lock().unwrap().push(notice.message().to_owned()));
        let mut client = config.connect(NoTls).unwrap();
        client
            .batch_execute(
                "LOAD 'auto_explain';
                 SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
                 SET auto_explain.log_analyze = on; SET auto_explain.log_buffers = on; SET auto_explain.log_timing = off;
                 SET auto_explain.log_format = json; SET client_min_messages = log",
            )
            .unwrap();
        Self { client, notices }
    }

    /// Runs a call and gives the plans of the statements in it that touched our tables.
    ///
    /// # Panics
    /// When the call fails.
    pub fn statements(&mut self, call: &str) -> Vec<Statement> {
        self.notices.lock().unwrap().clear();
        self.client
            .simple_query(call)
            .unwrap_or_else(|error| panic!("{call}: {error:?}"));
        let notices = self.notices.lock().unwrap();
        let plans = notices.iter().filter_map(|notice| {
            let (_, json) = notice.split_once("plan:\n")?;
            let explained: Value = serde_json::from_str(json).unwrap();
            Some(Statement {
                query: explained["Query Text"].as_str()?.to_owned(),
                plan: explained["Plan"].clone(),
            })
        });
        plans
            .filter(|statement| !statement.scans().is_empty())
            .collect()
    }
}

/// A node that reads a table, as "Index Scan of events using events_pkey".
fn scan(node: &Value) -> Option<String> {
    let relation = node["Relation Name"].as_str()?;
    let using = node["Index Name"]
        .as_str()
        .map(|index| format!(" using {index}"));
    Some(format!(
        "{} of {relation}{}",
        node["Node Type"].as_str()?,
        using.unwrap_or_default()
    ))
}

impl Statement {
    /// The statement and its plan, for people.
    #[must_use]
    pub fn explain(&self) -> String {
        format!("{}\n{:#}", self.query, self.plan)
    }

    /// All nodes of the plan.
    #[must_use]
    pub fn nodes(&self) -> Vec<&Value> {
        let mut nodes = vec![&self.plan];
        let mut next = 0;
        while next < nodes.len() {
            nodes.extend(nodes[next]["Plans"].as_array().into_iter().flatten());
            next += 1;
        }
        nodes
    }

    /// How our big tables are read.
    #[must_use]
    pub fn scans(&self) -> Vec<String> {
        let ours = |node: &&Value| {
            matches!(
                node["Relation Name"].as_str(),
                Some("events" | "stream_heads" | "snapshots" | "sagas" | "outbox")
            )
        };
        self.nodes()
            .into_iter()
            .filter(ours)
            .filter_map(scan)
            .collect()
    }

    /// What a hot statement's plan must not hold.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for node in self.nodes() {
            let kind = node["Node Type"].as_str().unwrap_or_default();
            if kind.contains("Sort") || kind.contains("Bitmap") {
                faults.push(kind.to_owned());
            }
            if let Some(scan) = scan(node).filter(|scan| !scan.contains(" of store")) {
                if !kind.starts_with("Index") {
                    faults.push(scan);
                } else if node["Index Cond"].is_null() {
                    faults.push(format!("{scan} without a condition"));
                }
            }
        }
        faults
    }

    /// Pages of shared buffers that the statement looked at.
    #[must_use]
    pub fn pages(&self) -> u64 {
        ["Shared Hit Blocks", "Shared Read Blocks"]
            .iter()
            .filter_map(|kind| self.plan[kind].as_u64())
            .sum()
    }
}
