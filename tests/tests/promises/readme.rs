//! README cannot rot: its psql transcript is played against a real server, and its Rust code is the example that the
//! client's tests run.

use mire_cluster::shared;

const README: &str = include_str!("../../../README.md");

#[test]
fn the_psql_transcript_is_what_psql_prints() {
    let database = shared().fresh_database().unwrap();
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in block("```console").lines() {
        if let Some(command) = line.strip_prefix("mire=# ") {
            steps.push((command.to_owned(), String::new()));
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix("mire-# ") {
                Some(more) => step.0.push_str(more),
                None => step.1.push_str(&format!("{line}\n")),
            }
        }
    }
    assert!(steps.len() > 4, "the transcript was found");

    for (command, expected) in steps {
        let output = shared()
            .command("psql")
            .args([
                "-X",
                "-v",
                "SHOW_CONTEXT=never",
                "-d",
                &database.url,
                "-c",
                &command,
            ])
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert_eq!(String::from_utf8(printed).unwrap(), expected, "{command}");
    }
}

#[test]
fn the_rust_code_is_the_example_that_runs() {
    let example = include_str!("../../../mire-client/examples/quickstart.rs");
    let code = block("```rust");
    for line in code.lines().filter(|line| !line.starts_with("use ")) {
        let line = line.replace("async fn run", "pub(crate) async fn run");
        assert!(
            example.contains(line.as_str()),
            "not in the example: {line}"
        );
    }
}

/// The first fenced block that begins with `fence`.
fn block(fence: &str) -> &'static str {
    let start = README.find(fence).expect("README has such a block") + fence.len();
    let rest = &README[start..];
    &rest[..rest.find("```").expect("the block ends")]
}
