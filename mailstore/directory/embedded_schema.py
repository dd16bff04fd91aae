"""The tables of a directory in a file, version by version."""

_VERSION_1 = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE domain (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE account (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, public_key BLOB NOT NULL,
    header_generation INTEGER NOT NULL, quota_bytes INTEGER, created INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE address (
    name TEXT PRIMARY KEY, domain TEXT NOT NULL REFERENCES domain(name),
    account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX address_domain ON address(domain);
CREATE INDEX address_account ON address(account_id);
"""
_VERSION_2 = """
ALTER TABLE account ADD COLUMN pop3_maildrop TEXT NOT NULL DEFAULT 'INBOX';
ALTER TABLE account ADD COLUMN pop3_retr_marks_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN pop3_dele_to_trash INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN pop3_login_delay_s INTEGER;
CREATE INDEX account_login_delay ON account(pop3_login_delay_s) WHERE pop3_login_delay_s IS NOT NULL;
"""
_VERSION_3 = "ALTER TABLE domain ADD COLUMN quota_bytes INTEGER;"
_VERSION_4 = """
ALTER TABLE account ADD COLUMN node TEXT;
ALTER TABLE account ADD COLUMN node_generation INTEGER NOT NULL DEFAULT 0;
CREATE TABLE node (name TEXT PRIMARY KEY, address TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_VERSION_5 = """
ALTER TABLE node ADD COLUMN imap TEXT;
ALTER TABLE node ADD COLUMN pop3 TEXT;
ALTER TABLE node ADD COLUMN submission TEXT;
"""
_VERSION_6 = """
ALTER TABLE domain ADD COLUMN accounts_max INTEGER;
ALTER TABLE domain ADD COLUMN aliases_max INTEGER;
"""
MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6)
"""The statements that lead from each version to the next; never edited later."""
