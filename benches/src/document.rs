//! Puts the table into a document whose prose is written by hand.

use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// Replaces what stands between the markers.
pub(crate) fn write(path: &Path, table: &str) -> Result<()> {
    let there =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = replaced(&there, table)
        .with_context(|| format!("{} lacks the markers {BEGIN} and {END}", path.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let document = format!("prose\n{BEGIN}\nold\n{END}\nmore prose\n");
        let once = replaced(&document, "new\n").expect("the markers are there");
        assert_eq!(once, format!("prose\n{BEGIN}\nnew\n{END}\nmore prose\n"));
        assert_eq!(replaced(&once, "new").as_deref(), Some(once.as_str()));
        assert_eq!(replaced("no markers", "new"), None);
    }
}
