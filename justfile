# For those who have `just`. Each recipe is one of the project's own commands; `cargo xtask --help` shows them all.

# Show this list
default:
    @just --list

# Traffic through the example plugins, then a shutdown with one plugin that overruns
demo *args:
    cargo xtask demo -- {{ args }}

# Build the plugins and run every test
test *args:
    cargo xtask test -- {{ args }}

# Build the example plugins, the book's samples and the tests' guests to WebAssembly
plugins *args:
    cargo xtask plugins {{ args }}

# Print what calls, plugins, stops and instances cost; on a machine that does nothing else
bench *args:
    cargo xtask bench {{ args }}

# A thousand stops of plugins that misbehave, under load; `--short` for a few
campaign *args:
    cargo xtask campaign stop {{ args }}

# Gateways and brokers that are killed while plugins publish events; `--short` for a few
outbox-campaign *args:
    cargo xtask campaign outbox {{ args }}

# Everything that a change has to pass
ci:
    cargo xtask ci

# Build the book of docs/ into target/book; takes mdbook
book:
    cargo xtask book

# Format all four workspaces
fmt:
    cargo fmt --all
    cd example-plugins && cargo fmt
    cd docs/samples && cargo fmt
    cd tests/guests && cargo fmt
