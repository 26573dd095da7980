"""HTTP in, HTTP out. With the factory and the CLI the only importer of Flask."""
