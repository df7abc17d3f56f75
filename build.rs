//! Builds the program again when a migration is added: they are embedded in it.

fn main() {
    #[expect(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]
    {
        println!("cargo::rerun-if-changed=migrations");
    }
}
