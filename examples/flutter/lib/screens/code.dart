import 'dart:async';

import 'package:flutter/material.dart';

import '../answers.dart';
import '../latchkey_service.dart';
import '../parts.dart';

typedef Answer = Future<Next> Function(String challengeId, String otp, String method);

const _ways = {
  'email': 'Get a code by e-mail',
  'sms': 'Get a code by SMS',
  'totp': 'Use the authenticator app',
  'backup_code': 'Use a backup code',
};

/// Answer a challenge: by the code of a message, or by another way that the account has.
class CodeScreen extends StatefulWidget {
  const CodeScreen({
    required this.service,
    required this.challenge,
    required this.answer,
    this.methods = const [],
    super.key,
  });

  final LatchkeyService service;
  final Challenge challenge;
  final Answer answer;
  final List<String> methods;

  @override
  State<CodeScreen> createState() => _CodeScreenState();
}

class _CodeScreenState extends State<CodeScreen> with Acting<CodeScreen> {
  final _code = TextEditingController();
  late Challenge _challenge = widget.challenge;
  late String _method = _challenge.channel == 'passkey' ? 'backup_code' : _challenge.channel;
  bool get _byMessage => _method == 'email' || _method == 'sms';

  @override
  void dispose() {
    _code.dispose();
    super.dispose();
  }

  Future<void> _verify() => act(() async {
        try {
          await widget.answer(_challenge.id, _code.text.trim(), _method);
          if (mounted) Navigator.of(context).popUntil((route) => route.isFirst);
        } on Refusal catch (refused) {
          _code.clear();
          if (refused.closes) _close(refused);
          rethrow;
        }
      });

  Future<void> _choose(String method) => act(() async {
        final sends = (method == 'email' || method == 'sms') && method != _challenge.channel;
        final challenge = sends ? await widget.service.resend(_challenge.id, channel: method) : _challenge;
        if (!mounted) return;
        setState(() {
          _challenge = challenge;
          _method = method;
          _code.clear();
        });
      });

  /// Back to where the challenge began, and say why.
  void _close(Refusal why) {
    if (!mounted) return;
    ScaffoldMessenger.of(context).showSnackBar(SnackBar(content: Text(why.words)));
    Navigator.of(context).pop();
  }

  String get _title => switch (_method) {
        'totp' => 'Open your authenticator app',
        'backup_code' => 'Use a backup code',
        'sms' => 'Check your phone',
        _ => 'Check your e-mail',
      };

  String get _text => switch (_method) {
        'totp' => 'Type the digits that it shows now.',
        'backup_code' => 'One of the ten that you wrote down. Each works once.',
        _ => 'We sent a code to ${_challenge.destination}.',
      };

  @override
  Widget build(BuildContext context) => FormPage(
        title: _title,
        text: _text,
        children: [
          if (_byMessage)
            Sent(
              key: ValueKey((_challenge.id, _challenge.resendAt)),
              service: widget.service,
              challenge: _challenge,
              again: () => widget.service.resend(_challenge.id),
              onSent: (challenge) => setState(() => _challenge = challenge),
            ),
          Trouble(refusal),
          if (_method == 'backup_code')
            Field(label: 'Backup code', controller: _code, onSubmitted: _verify)
          else
            CodeField(
              controller: _code,
              length: _method == 'totp' ? appLength : sentLength,
              onFull: (_) => _verify(),
            ),
          Countdown(
            until: _challenge.expiresAt,
            onEnd: () => _close(Refusal(status: 410, code: 'challenge_closed')),
            builder: (context, left) => Text(left == null ? 'The time is over.' : 'Time left: $left'),
          ),
          Send(label: 'Continue', busy: busy, onPressed: _verify),
          for (final method in widget.methods)
            if (method != _method && _ways.containsKey(method))
              TextButton(onPressed: busy ? null : () => _choose(method), child: Text(_ways[method]!)),
        ],
      );
}

/// Where a message is, and the button that sends it again.
class Sent extends StatefulWidget {
  const Sent({
    required this.service,
    required this.challenge,
    required this.again,
    required this.onSent,
    super.key,
  });

  final LatchkeyService service;
  final Challenge challenge;
  final Future<Challenge> Function() again;
  final ValueChanged<Challenge> onSent;

  @override
  State<Sent> createState() => _SentState();
}

class _SentState extends State<Sent> with Acting<Sent> {
  Timer? _poll;
  String _state = 'queued';

  @override
  void initState() {
    super.initState();
    _poll = Timer.periodic(const Duration(seconds: 2), _look);
  }

  @override
  void dispose() {
    _poll?.cancel();
    super.dispose();
  }

  /// Every two seconds for a minute, until it is settled.
  Future<void> _look(Timer timer) async {
    if (timer.tick >= 30) timer.cancel();
    try {
      final delivery = await widget.service.delivery(widget.challenge.id);
      if (mounted) setState(() => _state = delivery.state);
      if (_state == 'delivered' || _state == 'failed') timer.cancel();
    } on Refusal catch (refused) {
      if (refused.closes) timer.cancel();
    }
  }

  Future<void> _again() => act(() async => widget.onSent(await widget.again()));

  @override
  Widget build(BuildContext context) {
    final words = switch (_state) {
      'queued' => 'On its way …',
      'sent' => 'Sent',
      'delivered' => 'Delivered',
      _ => 'It could not be delivered.',
    };
    return Column(
      crossAxisAlignment: CrossAxisAlignment.stretch,
      children: [
        Row(
          children: [
            Expanded(child: Semantics(liveRegion: true, child: Text(words))),
            Countdown(
              until: widget.challenge.resendAt,
              builder: (context, left) => TextButton(
                onPressed: busy || left != null ? null : _again,
                child: Text(left == null ? 'Send again' : 'Send again in $left'),
              ),
            ),
          ],
        ),
        Trouble(refusal),
      ],
    );
  }
}
