/// What Latchkey answers. Names are those of its JSON, in Dart's spelling.
library;

typedef Json = Map<String, dynamic>;

/// A code that is asked for. Seconds that were left are kept as moments, for they do not run by themselves.
class Challenge {
  Challenge({
    required this.id,
    required this.channel,
    required this.destination,
    required this.expiresAt,
    required this.resendAt,
  });

  factory Challenge.fromJson(Json json) {
    final now = DateTime.now();
    return Challenge(
      id: json['challenge_id'] as String,
      channel: json['channel'] as String,
      destination: json['destination'] as String,
      expiresAt: now.add(Duration(seconds: json['expires_in'] as int)),
      resendAt: now.add(Duration(seconds: json['resend_in'] as int)),
    );
  }

  final String id;
  final String channel; // email, sms, totp or passkey
  final String destination; // masked, to be shown
  final DateTime expiresAt;
  final DateTime resendAt;
}

/// How far the message of a challenge has got.
class Delivery {
  Delivery(this.state);

  factory Delivery.fromJson(Json json) => Delivery(json['delivery'] as String);

  final String state; // queued, sent, delivered or failed; always sent but in a sign-in
}

/// The person who is signed in. Addresses are always proven.
class User {
  User({
    required this.id,
    required this.role,
    required this.mfa,
    required this.createdAt,
    this.name,
    this.username,
    this.email,
    this.phone,
  });

  factory User.fromJson(Json json) => User(
        id: json['id'] as String,
        role: json['role'] as String,
        mfa: (json['mfa'] as List<dynamic>).cast<String>(),
        createdAt: DateTime.parse(json['created_at'] as String),
        name: json['name'] as String?,
        username: json['username'] as String?,
        email: json['email'] as String?,
        phone: json['phone'] as String?,
      );

  final String id;
  final String role;
  final List<String> mfa;
  final DateTime createdAt;
  final String? name;
  final String? username;
  final String? email;
  final String? phone;
}

/// The tokens of a session. A refresh token works once: each refresh brings the next.
class Tokens {
  Tokens({
    required this.access,
    required this.freshUntil,
    required this.refresh,
    required this.user,
    this.device,
  });

  factory Tokens.fromJson(Json json) {
    final life = Duration(seconds: json['expires_in'] as int);
    return Tokens(
      access: json['access_token'] as String,
      // A tenth of its life early, so that a slow request still arrives with a good token.
      freshUntil: DateTime.now().add(life * 0.9),
      refresh: json['refresh_token'] as String,
      user: User.fromJson(json['user'] as Json),
      device: json['device_token'] as String?,
    );
  }

  final String access;
  final DateTime freshUntil;
  final String refresh;
  final User user;
  final String? device;
}

/// What follows an answer: the session, or one more thing to give.
sealed class Next {}

/// The session is open.
final class SignedIn extends Next {
  SignedIn(this.user);
  final User user;
}

/// A code is asked for; `methods` are the ways to give one.
final class CodeAsked extends Next {
  CodeAsked(this.challenge, this.methods);

  factory CodeAsked.fromJson(Json json) =>
      CodeAsked(Challenge.fromJson(json), (json['methods'] as List<dynamic>).cast<String>());

  final Challenge challenge;
  final List<String> methods;
}

/// The number is proven, but its account has a password or a factor: a SIM alone does not open it.
final class FactorAsked extends Next {
  FactorAsked(this.challengeId, this.methods, this.expiresAt);

  factory FactorAsked.fromJson(Json json) => FactorAsked(
        json['challenge_id'] as String,
        (json['methods'] as List<dynamic>).cast<String>(),
        DateTime.now().add(Duration(seconds: json['expires_in'] as int)),
      );

  final String challengeId;
  final List<String> methods; // password, totp, backup_code, ...
  final DateTime expiresAt;
}

/// The number is proven and new: a name and a consent open the account.
final class RegistrationAsked extends Next {
  RegistrationAsked(this.token);

  factory RegistrationAsked.fromJson(Json json) => RegistrationAsked(json['registration_token'] as String);

  final String token;
}

/// A no that a screen can act on. `code` is stable; `offline` is ours, for an answer that never came.
class Refusal implements Exception {
  Refusal({
    required this.status,
    required this.code,
    this.detail = '',
    this.errors = const {},
    this.attemptsLeft,
    this.until,
  });

  factory Refusal.fromJson(int status, Json json) {
    final wait = json['retry_after'] as int?;
    final errors = (json['errors'] as List<dynamic>? ?? const []).cast<Json>();
    return Refusal(
      status: status,
      code: json['code'] as String? ?? 'internal_error',
      detail: json['detail'] as String? ?? '',
      errors: {for (final error in errors) error['field'] as String: error['message'] as String},
      attemptsLeft: json['attempts_left'] as int?,
      until: wait == null ? null : DateTime.now().add(Duration(seconds: wait)),
    );
  }

  final int status;
  final String code;
  final String detail;
  final Map<String, String> errors; // by field
  final int? attemptsLeft;
  final DateTime? until; // when another try makes sense

  /// True if the challenge takes no more answers: it is gone, or this was the last guess.
  bool get closes => code == 'challenge_closed' || attemptsLeft == 0;

  /// What it means to the person who reads it. Unknown codes say what Latchkey says.
  String get words => switch (code) {
        'invalid_code' when attemptsLeft == 0 => 'That code was not right either. Start again for a new one.',
        'invalid_code' when attemptsLeft == 1 => 'That code is not right. One try is left.',
        'invalid_code' when attemptsLeft != null => 'That code is not right. $attemptsLeft tries are left.',
        'invalid_code' => 'That code is not right.',
        'invalid_credentials' => 'That does not go together.',
        'challenge_closed' => 'That code can no longer be used. Start again for a new one.',
        'account_locked' => 'Too many wrong tries.',
        'rate_limited' => 'That was a little too often.',
        'resend_too_soon' => 'A code was sent a moment ago.',
        'validation_failed' => 'Something is missing or not right yet.',
        'overloaded' || 'unavailable' => 'The service is busy. Try again in a moment.',
        'offline' => 'You seem to be offline. Check the connection and try again.',
        _ => detail.isEmpty ? 'Something went wrong. Try again in a moment.' : detail,
      };

  @override
  String toString() => 'Refusal($status $code)';
}
