import 'dart:async';
import 'dart:convert';
import 'dart:math';

import 'package:flutter/foundation.dart';
import 'package:flutter_secure_storage/flutter_secure_storage.dart';
import 'package:http/http.dart' as http;

import 'answers.dart';

const _patience = Duration(seconds: 15);
// For the first try of a refresh: the second must come within 10 seconds of it, or Latchkey takes the token for stolen.
const _refreshPatience = Duration(seconds: 4);
const _refreshKey = 'latchkey.refresh_token';
const _deviceKey = 'latchkey.device_token';

/// One session with Latchkey. Listeners hear when somebody has come in or gone out.
///
/// The access token is in memory only. The refresh token and the token of a remembered device are in the keychain or
/// keystore. A refresh token works once, so all calls that need a fresh token wait for one refresh.
class LatchkeyService extends ChangeNotifier {
  LatchkeyService(this.base, {http.Client? client, FlutterSecureStorage? storage})
      : _client = client ?? http.Client(),
        _storage = storage ?? const FlutterSecureStorage();

  /// Where Latchkey answers, without a slash at its end: `https://auth.example.com`.
  final String base;
  final http.Client _client;
  final FlutterSecureStorage _storage;
  Tokens? _tokens;
  Future<String>? _refreshing;

  /// Who is signed in; null for nobody.
  User? get user => _tokens?.user;

  /// Go on with the session of the last time, if there is one. Throws a [Refusal] if that cannot be found out now.
  Future<void> restore() async {
    if (await _storage.read(key: _refreshKey) == null) return;
    try {
      await _fresh();
    } on Refusal catch (refusal) {
      if (refusal.status != 401) rethrow;
    }
  }

  // With a password.

  /// Begin a sign-up. The answer is the same whether or not the address has an account.
  Future<Challenge> signUp({required String email, required String password, String? name}) async {
    final body = {'email': email, 'password': password, if (name != null && name.isNotEmpty) 'name': name};
    return Challenge.fromJson(await _send('POST', '/api/auth/signup', body, repeatable: true));
  }

  /// Finish a sign-up with its code.
  Future<Next> verifySignUp(String challengeId, String otp) async {
    final body = {'challenge_id': challengeId, 'otp': otp, 'device_info': _deviceInfo};
    return _next(await _send('POST', '/api/auth/verify-otp', body));
  }

  /// Begin a sign-in: the session at once where this device is remembered, else the code that is asked for.
  Future<Next> signIn(String identifier, String password) async {
    final device = await _storage.read(key: _deviceKey);
    final body = {
      'identifier': identifier,
      'password': password,
      'device_info': _deviceInfo,
      if (device != null) 'device_token': device,
    };
    return _next(await _send('POST', '/api/auth/login', body));
  }

  /// Finish a sign-in with a code of one of its methods.
  Future<Next> verifySignIn(String challengeId, String otp, {String? method, bool remember = false}) async {
    final body = {
      'challenge_id': challengeId,
      'otp': otp,
      if (method != null) 'method': method,
      'remember_device': remember,
      'device_info': _deviceInfo,
    };
    return _next(await _send('POST', '/api/auth/login/verify', body));
  }

  /// Finish a sign-in by phone whose account has a password.
  Future<Next> verifyPassword(String challengeId, String password) async {
    final body = {'challenge_id': challengeId, 'password': password, 'device_info': _deviceInfo};
    return _next(await _send('POST', '/api/auth/login/verify', body));
  }

  // Codes.

  /// Send a code again, or by another channel: `email` or `sms`.
  Future<Challenge> resend(String challengeId, {String? channel}) async {
    final body = {'challenge_id': challengeId, if (channel != null) 'channel': channel};
    return Challenge.fromJson(await _send('POST', '/api/auth/resend-otp', body, repeatable: true));
  }

  /// Where the message of a challenge is.
  Future<Delivery> delivery(String challengeId) async =>
      Delivery.fromJson(await _send('GET', '/api/auth/challenges/$challengeId', null));

  // Recovery.

  /// Ask for a recovery code. Always the same answer, whether or not there is an account.
  Future<Challenge> forgotPassword(String identifier) async {
    final body = {'identifier': identifier};
    return Challenge.fromJson(await _send('POST', '/api/auth/forgot-password', body, repeatable: true));
  }

  /// Set a new password with a recovery code. Every session of the account ends.
  Future<void> resetPassword(String challengeId, String otp, String newPassword) async {
    final body = {'challenge_id': challengeId, 'otp': otp, 'new_password': newPassword};
    await _send('POST', '/api/auth/reset-password', body);
  }

  // By phone alone.

  /// Send a code to a number such as `+919876543210`. While one is alive, the same is sent again.
  Future<Challenge> sendToPhone(String number) async {
    final body = {'mobile_number': number};
    return Challenge.fromJson(await _send('POST', '/api/v1/auth/send-otp', body, repeatable: true));
  }

  /// Answer the code of a number: the session, a registration for a new number, or a further factor.
  Future<Next> verifyPhone(String number, String otp, {required String challengeId}) async {
    final body = {
      'mobile_number': number,
      'otp': otp,
      'challenge_id': challengeId,
      'device_info': _deviceInfo,
    };
    return _next(await _send('POST', '/api/v1/auth/verify-otp', body));
  }

  /// Open the account of a new number. `termsVersion` names the text that was agreed to.
  Future<Next> register(String registrationToken, {required String name, required String termsVersion}) async {
    final body = {
      'registration_token': registrationToken,
      'name': name,
      'consent': {'terms': true, 'version': termsVersion},
      'device_info': _deviceInfo,
    };
    return _next(await _send('POST', '/api/v1/auth/complete-registration', body));
  }

  // The session.

  /// Ask anew who is signed in.
  Future<User> me() async {
    final token = await _fresh();
    try {
      return User.fromJson(await _send('GET', '/api/auth/me', null, token: token));
    } on Refusal catch (refusal) {
      if (!refusal.code.startsWith('token_')) rethrow;
      final next = await _fresh(stale: token); // expired on the way, or the keys were changed
      return User.fromJson(await _send('GET', '/api/auth/me', null, token: next));
    }
  }

  /// End the session, here and at Latchkey. Throws a [Refusal] if Latchkey did not hear of it, or will not now: then it
  /// goes on.
  Future<void> signOut() async {
    final token = await _storage.read(key: _refreshKey);
    try {
      if (token != null) await _send('POST', '/api/auth/logout', {'refresh_token': token});
    } on Refusal catch (refusal) {
      if (refusal.status != 401) rethrow; // a 401 says that it is over already
    }
    await _leave();
  }

  /// An access token that is good and not the stale one. However many ask at once, one refresh is made.
  Future<String> _fresh({String? stale}) {
    final tokens = _tokens;
    if (tokens != null && tokens.access != stale && DateTime.now().isBefore(tokens.freshUntil)) {
      return Future.value(tokens.access);
    }
    return _refreshing ??= _refresh().whenComplete(() => _refreshing = null);
  }

  Future<String> _refresh() async {
    final spent = await _storage.read(key: _refreshKey);
    if (spent == null) throw Refusal(status: 401, code: 'token_missing');
    final body = {'refresh_token': spent};
    try {
      final answered = await _send('POST', '/api/auth/refresh', body, patience: _refreshPatience).onError<Refusal>(
        // The answer may be what was lost. The same token again within 10 seconds gets the same successor.
        (refusal, _) => _send('POST', '/api/auth/refresh', body),
        test: (refusal) => refusal.status == 0,
      );
      final tokens = Tokens.fromJson(answered);
      await _keep(tokens);
      return tokens.access;
    } on Refusal catch (refusal) {
      if (refusal.status == 401) await _leave();
      rethrow;
    }
  }

  Future<Next> _next(Json json) async {
    if (json['status'] == 'otp_required') return CodeAsked.fromJson(json);
    if (json['status'] == 'factor_required') return FactorAsked.fromJson(json);
    if (json['is_new_user'] == true) return RegistrationAsked.fromJson(json);
    final tokens = Tokens.fromJson(json);
    await _keep(tokens);
    return SignedIn(tokens.user);
  }

  Future<void> _keep(Tokens tokens) async {
    await _storage.write(key: _refreshKey, value: tokens.refresh);
    if (tokens.device != null) await _storage.write(key: _deviceKey, value: tokens.device);
    _tokens = tokens;
    notifyListeners();
  }

  Future<void> _leave() async {
    await _storage.delete(key: _refreshKey);
    _tokens = null;
    notifyListeners();
  }

  /// What the list of sessions says of this one.
  Map<String, String> get _deviceInfo => {'app': 'Latchkey example', 'platform': defaultTargetPlatform.name};

  /// Call Latchkey; give what it answered. A repeatable call carries a key and is sent once more if its answer was lost:
  /// Latchkey then gives the first answer and sends no second message. Throws a [Refusal].
  Future<Json> _send(
    String method,
    String path,
    Json? body, {
    String? token,
    bool repeatable = false,
    Duration patience = _patience,
  }) async {
    final headers = {
      'Accept': 'application/json',
      if (body != null) 'Content-Type': 'application/json',
      if (token != null) 'Authorization': 'Bearer $token',
      if (repeatable) 'Idempotency-Key': _randomKey(),
    };
    for (var attempt = repeatable ? 2 : 1;; attempt--) {
      try {
        final request = http.Request(method, Uri.parse('$base$path'))..headers.addAll(headers);
        if (body != null) request.body = jsonEncode(body);
        return _read(await _client.send(request).then(http.Response.fromStream).timeout(patience));
      } on http.ClientException {
        if (attempt <= 1) throw Refusal(status: 0, code: 'offline');
      } on TimeoutException {
        if (attempt <= 1) throw Refusal(status: 0, code: 'offline');
      }
    }
  }

  Json _read(http.Response response) {
    Json answered;
    try {
      answered = jsonDecode(utf8.decode(response.bodyBytes)) as Json;
    } on FormatException {
      answered = {};
    }
    if (response.statusCode < 300) return answered;
    throw Refusal.fromJson(response.statusCode, answered);
  }

  static String _randomKey() {
    final random = Random.secure();
    return [for (var i = 0; i < 16; i++) random.nextInt(256).toRadixString(16).padLeft(2, '0')].join();
  }
}
