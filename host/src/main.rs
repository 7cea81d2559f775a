//! The program `tidegate`: everything is in the library, so that tests and embedders can name it.

fn main() -> std::process::ExitCode {
    tidegate::cli::main()
}
