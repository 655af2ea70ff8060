//! Joins `sql/` into the install script.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The files that `manifest` lists, in install order; checks that it forgets none.
pub(crate) fn manifest(sql: &Path) -> Result<Vec<PathBuf>> {
    let path = sql.join("manifest");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let listed: Vec<PathBuf> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| sql.join(line))
        .collect();
    let known: BTreeSet<&PathBuf> = listed.iter().collect();
    if known.len() != listed.len() {
        bail!("{} lists a file twice", path.display());
    }
    let mut there = BTreeSet::new();
    collect(sql, &mut there)?;
    if let Some(forgotten) = there.iter().find(|file| !known.contains(file)) {
        bail!(
            "{} is not listed in {}: add it where it belongs in the order",
            forgotten.display(),
            path.display()
        );
    }
    if let Some(missing) = listed.iter().find(|file| !there.contains(*file)) {
        bail!(
            "{} lists {}, which does not exist",
            path.display(),
            missing.display()
        );
    }
    Ok(listed)
}

/// Every .sql file below `folder`, except released scripts: they are frozen and stand alone.
fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "releases") {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|ext| ext == "sql") {
            into.insert(path);
        }
    }
    Ok(())
}

/// The install script: a guard against running it by hand, then every file under its name.
pub(crate) fn join(sql: &Path) -> Result<String> {
    let mut script = String::from(
        "\\echo Use \"CREATE EXTENSION pg_mire\" to load this file. \\quit\n\
         -- Made from sql/ by `cargo xtask install`: change the files there, not this one.\n",
    );
    for file in manifest(sql)? {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(sql).unwrap_or(&file).display();
        script.push_str(&format!("\n-- ---- {name}\n{}\n", text.trim_end()));
    }
    Ok(script)
}
