//! Lists on stdout: a table for people, JSON for scripts.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use super::io::result;
use super::outcome::Format;

/// What is listed.
pub(super) trait Listed {
    /// The table's head.
    const HEADER: &'static [&'static str];

    /// As the API gave it.
    fn raw(&self) -> &Value;

    /// Its row.
    fn cells(&self) -> Vec<String>;
}

/// Prints a list: as JSON a bare one.
pub(super) fn print<T: Listed>(items: &[T], format: Format) {
    match format {
        Format::Json => result(&json_of(&items.iter().map(|item| item.raw().clone()).collect())),
        Format::Table => result(&rows(T::HEADER, items.iter().map(T::cells))),
    }
}

/// Prints one alone.
pub(super) fn print_one<T: Listed>(item: &T, format: Format) {
    match format {
        Format::Json => result(&json_of(item.raw())),
        Format::Table => print(std::slice::from_ref(item), format),
    }
}

/// A table of rows.
pub(super) fn rows(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()));
    }
    table.to_string()
}

/// A cell: a dash for what is not there.
pub(super) fn shown<T: std::fmt::Display>(value: Option<&T>) -> String {
    value
        .map(ToString::to_string)
        .filter(|text| text != "null")
        .map_or_else(|| "–".to_owned(), |text| text.trim_matches('"').to_owned())
}

/// JSON as it is printed.
pub(super) fn json_of(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value can be written")
}
