//! The schema of the chart's values, and their table in the chart's README and in docs. They are made from values.yaml:
//! comments describe the values, and lines that begin with `@schema` restrict them with keywords of JSON
//! Schema. The types of Kubernetes to which they may refer are in `kubernetes.rs`.

mod entries;
mod kubernetes;
mod schema;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::markdown;
use crate::workspace::Workspace;

/// The place of the table in the chart's README.
const PLACE: &str = "values: cargo xtask generate";

/// The page in docs, before the table.
const PAGE: &str = "# Values of the chart

`cargo xtask generate` writes this page from [values.yaml](https://github.com/adieu-dev/adieu/blob/main/charts/adieu/values.yaml). \
[The chart's README](https://github.com/adieu-dev/adieu/blob/main/charts/adieu/README.md) explains the common ones, and those \
for platforms.
";

/// The paths of the schema, of the chart's README and of the page in docs, and their up-to-date texts.
pub fn files(workspace: &Workspace) -> Result<[(PathBuf, String); 3]> {
    let chart = workspace.root().join("charts/adieu");
    let read = |name: &str| {
        let file = chart.join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let values = read("values.yaml")?;
    let entries = entries::parse(&values).context("values.yaml")?;
    let schema = schema::schema(&entries).context("values.yaml")?;
    let schema = serde_json::to_string_pretty(&schema).context("cannot encode the schema")?;
    let table = table::table(&entries);
    let readme = markdown::replaced(&read("README.md")?, PLACE, &table)
        .with_context(|| format!("README.md has no place <!-- {PLACE} -->"))?;
    Ok([
        (chart.join("values.schema.json"), format!("{schema}\n")),
        (chart.join("README.md"), readme),
        (workspace.root().join("docs/reference/values.md"), format!("{PAGE}\n{table}")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_and_the_tables_of_the_charts_values_are_up_to_date() {
        for (file, generated) in files(&Workspace::find().unwrap()).unwrap() {
            let found = fs::read_to_string(&file).unwrap();
            assert!(found == generated, "{} differs: run cargo xtask generate", file.display());
        }
    }
}
