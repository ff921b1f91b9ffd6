//! Prints the tables of the README that are made from the code: `cargo run --example readme_tables`.

fn main() {
    println!("{}", trunkline::transport::capability_table());
    println!("{}", trunkline::cekura::mode_table());
    println!("{}", trunkline::report::failure_table());
}
