"""The file edges: campaign.toml, accounts, providers, environment and secrets in; frozen values out."""
