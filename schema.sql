-- The tables on PostgreSQL, for reading. `flask db upgrade` makes them; tools/generate.py made this.

CREATE TABLE api_keys (
    id UUID NOT NULL,
    name VARCHAR(100) NOT NULL,
    prefix VARCHAR(16) NOT NULL,
    digest VARCHAR(64) NOT NULL,
    scopes VARCHAR(255) NOT NULL,
    created_by UUID,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT uq_api_keys_digest UNIQUE (digest)
);

CREATE TABLE audit_logs (
    id UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    event VARCHAR(40) NOT NULL,
    success BOOLEAN NOT NULL,
    reason VARCHAR(40),
    user_id UUID,
    actor_id UUID,
    session_id UUID,
    subject VARCHAR(254),
    ip VARCHAR(45),
    user_agent VARCHAR(255),
    request_id VARCHAR(64),
    facts JSON NOT NULL,
    salt VARCHAR(32),
    person VARCHAR(64),
    key_id VARCHAR(8),
    mac VARCHAR(64),
    seal INTEGER,
    CONSTRAINT pk_audit_logs PRIMARY KEY (id)
);
CREATE INDEX ix_audit_logs_at ON audit_logs (at);
CREATE INDEX ix_audit_logs_event_at ON audit_logs (event, at);
CREATE INDEX ix_audit_logs_seal_id ON audit_logs (seal, id);
CREATE INDEX ix_audit_logs_user_id_at ON audit_logs (user_id, at);

CREATE TABLE audit_seals (
    sequence INTEGER NOT NULL,
    count INTEGER NOT NULL,
    first_id UUID NOT NULL,
    last_id UUID NOT NULL,
    newest_at TIMESTAMP WITH TIME ZONE NOT NULL,
    adopted BOOLEAN NOT NULL,
    digest VARCHAR(64) NOT NULL,
    previous VARCHAR(64),
    made_at TIMESTAMP WITH TIME ZONE NOT NULL,
    key_id VARCHAR(8) NOT NULL,
    mac VARCHAR(64) NOT NULL,
    members BYTEA,
    purged_at TIMESTAMP WITH TIME ZONE,
    purge_key_id VARCHAR(8),
    purge_mac VARCHAR(64),
    CONSTRAINT pk_audit_seals PRIMARY KEY (sequence)
);

CREATE TABLE devices (
    id UUID NOT NULL,
    device_id VARCHAR(128) NOT NULL,
    owner VARCHAR(255) NOT NULL,
    salt VARCHAR(32) NOT NULL,
    key_version INTEGER NOT NULL,
    master_id VARCHAR(8) NOT NULL,
    key_digest VARCHAR(64) NOT NULL,
    digits INTEGER NOT NULL,
    interval_s INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    usage_count INTEGER NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    failures INTEGER NOT NULL,
    locked_until TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    deactivated_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_devices PRIMARY KEY (id),
    CONSTRAINT uq_devices_device_id UNIQUE (device_id)
);

CREATE TABLE erased_sessions (
    session_id UUID NOT NULL,
    erased_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_erased_sessions PRIMARY KEY (session_id)
);
CREATE INDEX ix_erased_sessions_erased_at ON erased_sessions (erased_at);

CREATE TABLE hourly_counts (
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    metric VARCHAR(16) NOT NULL,
    channel VARCHAR(8) NOT NULL,
    country VARCHAR(3) NOT NULL,
    count INTEGER NOT NULL,
    CONSTRAINT pk_hourly_counts PRIMARY KEY (hour, metric, channel, country)
);

CREATE TABLE repeats (
    key VARCHAR(64) NOT NULL,
    body VARCHAR(64) NOT NULL,
    answer JSON,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_repeats PRIMARY KEY (key)
);
CREATE INDEX ix_repeats_expires_at ON repeats (expires_at);

CREATE TABLE signups (
    id UUID NOT NULL,
    email VARCHAR(254),
    phone VARCHAR(16),
    username VARCHAR(32),
    name VARCHAR(100),
    password_hash VARCHAR(255),
    consent JSON,
    language VARCHAR(16),
    challenge_id UUID,
    grant_digest VARCHAR(64),
    grant_expires_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    given_up_by UUID,
    CONSTRAINT pk_signups PRIMARY KEY (id),
    CONSTRAINT uq_signups_grant_digest UNIQUE (grant_digest)
);
CREATE INDEX ix_signups_email_created_at ON signups (email, created_at);
CREATE INDEX ix_signups_expires_at ON signups (expires_at);
CREATE INDEX ix_signups_given_up_by ON signups (given_up_by);
CREATE INDEX ix_signups_phone_created_at ON signups (phone, created_at);
CREATE INDEX ix_signups_username_created_at ON signups (username, created_at);

CREATE TABLE throttles (
    key VARCHAR(64) NOT NULL,
    count INTEGER NOT NULL,
    window_ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    day_count INTEGER NOT NULL,
    day_ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    level INTEGER NOT NULL,
    streak INTEGER NOT NULL,
    locked_until TIMESTAMP WITH TIME ZONE,
    touched_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_throttles PRIMARY KEY (key)
);
CREATE INDEX ix_throttles_touched_at ON throttles (touched_at);

CREATE TABLE username_holds (
    username VARCHAR(32) NOT NULL,
    claimant VARCHAR(64) NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_username_holds PRIMARY KEY (username)
);
CREATE INDEX ix_username_holds_expires_at ON username_holds (expires_at);

CREATE TABLE users (
    id UUID NOT NULL,
    name VARCHAR(100),
    username VARCHAR(32) COLLATE "C",
    email VARCHAR(254) COLLATE "C",
    phone VARCHAR(16) COLLATE "C",
    role VARCHAR(32) NOT NULL,
    password_hash VARCHAR(255),
    language VARCHAR(16),
    disabled_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_login_at TIMESTAMP WITH TIME ZONE,
    recovered_by VARCHAR(8),
    password_changed_at TIMESTAMP WITH TIME ZONE,
    mfa VARCHAR(64) DEFAULT '' NOT NULL,
    name_key VARCHAR(100) COLLATE "C",
    locked_at TIMESTAMP WITH TIME ZONE,
    locked_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_username UNIQUE (username),
    CONSTRAINT uq_users_email UNIQUE (email),
    CONSTRAINT uq_users_phone UNIQUE (phone)
);
CREATE INDEX ix_users_disabled_at ON users (disabled_at);
CREATE INDEX ix_users_locked_at ON users (locked_at);
CREATE INDEX ix_users_name_key ON users (name_key);
CREATE INDEX ix_users_role_id ON users (role, id);

CREATE TABLE authenticators (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    name VARCHAR(100) NOT NULL,
    secret VARCHAR(255) NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    confirmed_at TIMESTAMP WITH TIME ZONE,
    failures INTEGER NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    last_step INTEGER NOT NULL,
    drift INTEGER NOT NULL,
    CONSTRAINT pk_authenticators PRIMARY KEY (id),
    CONSTRAINT fk_authenticators_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_authenticators_user_id ON authenticators (user_id);

CREATE TABLE backup_codes (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    digest VARCHAR(64) NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    key_id VARCHAR(8),
    CONSTRAINT pk_backup_codes PRIMARY KEY (id),
    CONSTRAINT fk_backup_codes_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_backup_codes_user_id_digest ON backup_codes (user_id, digest);

CREATE TABLE consents (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    terms BOOLEAN NOT NULL,
    privacy BOOLEAN NOT NULL,
    version VARCHAR(40) NOT NULL,
    given_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ip VARCHAR(45) NOT NULL,
    withdrawn_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_consents PRIMARY KEY (id),
    CONSTRAINT fk_consents_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_consents_user_id ON consents (user_id);

CREATE TABLE otp_challenges (
    id UUID NOT NULL,
    purpose VARCHAR(24) NOT NULL,
    channel VARCHAR(8) NOT NULL,
    destination VARCHAR(254) NOT NULL,
    shown VARCHAR(254) NOT NULL,
    user_id UUID,
    signup_id UUID,
    asked_by UUID,
    session_id UUID,
    budget_key VARCHAR(64) NOT NULL,
    stands_on TIMESTAMP WITH TIME ZONE,
    methods VARCHAR(64) NOT NULL,
    language VARCHAR(16) NOT NULL,
    key_id VARCHAR(8) NOT NULL,
    factor VARCHAR(32) NOT NULL,
    digest VARCHAR(64) NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    sends INTEGER NOT NULL,
    last_sent_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    void_at TIMESTAMP WITH TIME ZONE,
    begun_by VARCHAR(64),
    grant_digest VARCHAR(64),
    grant_expires_at TIMESTAMP WITH TIME ZONE,
    decoy BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT pk_otp_challenges PRIMARY KEY (id),
    CONSTRAINT fk_otp_challenges_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT fk_otp_challenges_signup_id FOREIGN KEY(signup_id) REFERENCES signups (id) ON DELETE CASCADE,
    CONSTRAINT uq_otp_challenges_grant_digest UNIQUE (grant_digest)
);
CREATE INDEX ix_otp_challenges_budget_key ON otp_challenges (budget_key);
CREATE INDEX ix_otp_challenges_destination ON otp_challenges (destination);
CREATE INDEX ix_otp_challenges_expires_at ON otp_challenges (expires_at);
CREATE INDEX ix_otp_challenges_signup_id ON otp_challenges (signup_id);
CREATE INDEX ix_otp_challenges_user_id ON otp_challenges (user_id);

CREATE TABLE passkeys (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    name VARCHAR(100) NOT NULL,
    credential_digest VARCHAR(64) NOT NULL,
    credential_id VARCHAR(1364) NOT NULL,
    public_key VARCHAR(1364) NOT NULL,
    sign_count BIGINT NOT NULL,
    aaguid VARCHAR(36) NOT NULL,
    transports VARCHAR(64) NOT NULL,
    synced BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_passkeys PRIMARY KEY (id),
    CONSTRAINT fk_passkeys_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT uq_passkeys_credential_digest UNIQUE (credential_digest)
);
CREATE INDEX ix_passkeys_user_id ON passkeys (user_id);

CREATE TABLE sessions (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    amr VARCHAR(64) NOT NULL,
    ip VARCHAR(45) NOT NULL,
    user_agent VARCHAR(255) NOT NULL,
    device_info JSON,
    client_key VARCHAR(64) NOT NULL,
    cookie_digest VARCHAR(64),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    auth_time TIMESTAMP WITH TIME ZONE NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    revoked_why VARCHAR(32),
    CONSTRAINT pk_sessions PRIMARY KEY (id),
    CONSTRAINT fk_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT uq_sessions_cookie_digest UNIQUE (cookie_digest)
);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);
CREATE INDEX ix_sessions_revoked_at_id ON sessions (revoked_at, id);
CREATE INDEX ix_sessions_user_id_client_key ON sessions (user_id, client_key);
CREATE INDEX ix_sessions_user_id_id ON sessions (user_id, id);

CREATE TABLE trusted_devices (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    digest VARCHAR(64) NOT NULL,
    user_agent VARCHAR(255) NOT NULL,
    ip VARCHAR(45) NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_trusted_devices PRIMARY KEY (id),
    CONSTRAINT fk_trusted_devices_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT uq_trusted_devices_digest UNIQUE (digest)
);
CREATE INDEX ix_trusted_devices_expires_at ON trusted_devices (expires_at);
CREATE INDEX ix_trusted_devices_user_id ON trusted_devices (user_id);

CREATE TABLE outbox_messages (
    id UUID NOT NULL,
    kind VARCHAR(40) NOT NULL,
    channel VARCHAR(8) NOT NULL,
    recipient VARCHAR(254) NOT NULL,
    language VARCHAR(16) NOT NULL,
    country VARCHAR(3),
    challenge_id UUID,
    user_id UUID,
    facts JSON NOT NULL,
    state VARCHAR(10) NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE NOT NULL,
    lease VARCHAR(32),
    leased_until TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    provider VARCHAR(32),
    provider_id VARCHAR(128),
    avoid VARCHAR(32),
    last_error VARCHAR(255),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_outbox_messages PRIMARY KEY (id),
    CONSTRAINT fk_outbox_messages_challenge_id FOREIGN KEY(challenge_id) REFERENCES otp_challenges (id) ON DELETE CASCADE
);
CREATE INDEX ix_outbox_messages_challenge_id ON outbox_messages (challenge_id);
CREATE INDEX ix_outbox_messages_channel_state_next_attempt_at ON outbox_messages (channel, state, next_attempt_at);
CREATE INDEX ix_outbox_messages_country_created_at ON outbox_messages (country, created_at);
CREATE INDEX ix_outbox_messages_lease ON outbox_messages (lease);
CREATE INDEX ix_outbox_messages_provider_provider_id ON outbox_messages (provider, provider_id);
CREATE INDEX ix_outbox_messages_state_next_attempt_at ON outbox_messages (state, next_attempt_at);
CREATE INDEX ix_outbox_messages_user_id ON outbox_messages (user_id);

CREATE TABLE refresh_tokens (
    id UUID NOT NULL,
    session_id UUID NOT NULL,
    digest VARCHAR(64) NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_refresh_tokens PRIMARY KEY (id),
    CONSTRAINT fk_refresh_tokens_session_id FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE,
    CONSTRAINT uq_refresh_tokens_digest UNIQUE (digest)
);
CREATE INDEX ix_refresh_tokens_expires_at ON refresh_tokens (expires_at);
CREATE INDEX ix_refresh_tokens_session_id ON refresh_tokens (session_id);
