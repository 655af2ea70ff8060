# The tasks live in xtask/; `cargo xtask` lists them all.

.PHONY: demo test test-long psql lint image bench bench-quick

demo: ## the main job on real input, in front of you
	cargo xtask demo

test: ## everything, on PostgreSQL 15 and 18
	cargo xtask test

test-long: ## the same, with the long durations and many seeds
	cargo xtask test --long

psql: ## psql in a fresh throwaway cluster with the extension
	cargo xtask psql

lint: ## what `make test` checks without running anything
	cargo xtask lint

image: ## build the Docker image and try it
	cargo xtask image

bench: ## beside peers and the least that PostgreSQL can do, five rounds; writes docs/PERFORMANCE.md's tables and plots
	cargo xtask bench

bench-quick: ## the same, one round on less data, nothing written
	cargo xtask bench --quick
