import 'package:flutter/material.dart';

import '../answers.dart';
import '../latchkey_service.dart';
import '../parts.dart';
import 'code.dart';

/// The version of the terms that a new user agrees to; it is stored with the consent.
const termsVersion = '2026-01';

/// Sign in by phone alone. A new number registers; an account with a password or a factor is asked for that too.
class PhoneScreen extends StatefulWidget {
  const PhoneScreen({required this.service, super.key});

  final LatchkeyService service;

  @override
  State<PhoneScreen> createState() => _PhoneScreenState();
}

class _PhoneScreenState extends State<PhoneScreen> with Acting<PhoneScreen> {
  final _number = TextEditingController();
  final _code = TextEditingController();
  Challenge? _challenge;

  @override
  void dispose() {
    _number.dispose();
    _code.dispose();
    super.dispose();
  }

  Future<void> _ask() => act(() async {
        final challenge = await widget.service.sendToPhone(_number.text.trim());
        if (mounted) setState(() => _challenge = challenge);
      });

  Future<void> _verify(Challenge challenge) => act(() async {
        try {
          final number = _number.text.trim();
          _follow(await widget.service.verifyPhone(number, _code.text, challengeId: challenge.id));
        } on Refusal catch (refused) {
          _code.clear();
          if (refused.closes && mounted) setState(() => _challenge = null);
          rethrow;
        }
      });

  void _follow(Next next) {
    if (!mounted) return;
    final screen = switch (next) {
      SignedIn() || CodeAsked() => null,
      RegistrationAsked(:final token) => RegisterScreen(service: widget.service, token: token),
      FactorAsked() => FactorScreen(service: widget.service, asked: next),
    };
    if (screen == null) {
      Navigator.of(context).popUntil((route) => route.isFirst);
    } else {
      Navigator.of(context).pushReplacement(MaterialPageRoute<void>(builder: (context) => screen));
    }
  }

  @override
  Widget build(BuildContext context) {
    final challenge = _challenge;
    if (challenge == null) {
      return FormPage(
        title: 'Your phone number',
        text: 'We send it a code. A new number gets an account.',
        children: [
          Trouble(refusal),
          Field(
            label: 'Number, such as +91 98765 43210',
            controller: _number,
            error: refusal?.errors['mobile_number'],
            autofill: AutofillHints.telephoneNumber,
            keyboard: TextInputType.phone,
            onSubmitted: _ask,
          ),
          Send(label: 'Send me a code', busy: busy, onPressed: _ask),
        ],
      );
    }
    return FormPage(
      title: 'Check your phone',
      text: 'We sent a code to ${challenge.destination}.',
      children: [
        Sent(
          key: ValueKey((challenge.id, challenge.resendAt)),
          service: widget.service,
          challenge: challenge,
          again: () => widget.service.sendToPhone(_number.text.trim()),
          onSent: (sent) => setState(() => _challenge = sent),
        ),
        Trouble(refusal),
        CodeField(controller: _code, onFull: (_) => _verify(challenge)),
        Countdown(
          until: challenge.expiresAt,
          onEnd: () => setState(() => _challenge = null),
          builder: (context, left) => Text(left == null ? 'The time is over.' : 'This code works for $left'),
        ),
        Send(label: 'Continue', busy: busy, onPressed: () => _verify(challenge)),
      ],
    );
  }
}

/// The account of a new number: a name, and the consent without which there is none.
class RegisterScreen extends StatefulWidget {
  const RegisterScreen({required this.service, required this.token, super.key});

  final LatchkeyService service;
  final String token;

  @override
  State<RegisterScreen> createState() => _RegisterScreenState();
}

class _RegisterScreenState extends State<RegisterScreen> with Acting<RegisterScreen> {
  final _name = TextEditingController();
  bool _agreed = false;

  @override
  void dispose() {
    _name.dispose();
    super.dispose();
  }

  Future<void> _register() => act(() async {
        await widget.service.register(widget.token, name: _name.text.trim(), termsVersion: termsVersion);
        if (mounted) Navigator.of(context).popUntil((route) => route.isFirst);
      });

  @override
  Widget build(BuildContext context) => FormPage(
        title: 'Your number is confirmed',
        text: 'One more thing, and your account is ready.',
        children: [
          Trouble(refusal),
          Field(
            label: 'Name',
            controller: _name,
            error: refusal?.errors['name'],
            autofill: AutofillHints.name,
          ),
          CheckboxListTile(
            value: _agreed,
            onChanged: (value) => setState(() => _agreed = value ?? false),
            title: const Text('I agree to the terms'),
            contentPadding: EdgeInsets.zero,
          ),
          Send(label: 'Open my account', busy: busy, onPressed: _agreed ? _register : null),
        ],
      );
}

/// What an account asks for beside its SIM: its password, or a code of its app or its ten.
class FactorScreen extends StatefulWidget {
  const FactorScreen({required this.service, required this.asked, super.key});

  final LatchkeyService service;
  final FactorAsked asked;

  @override
  State<FactorScreen> createState() => _FactorScreenState();
}

class _FactorScreenState extends State<FactorScreen> with Acting<FactorScreen> {
  static const _labels = {
    'password': 'Password',
    'totp': 'Code of your authenticator app',
    'backup_code': 'Backup code',
  };

  final _given = TextEditingController();
  late String _method = widget.asked.methods.firstWhere(_labels.containsKey, orElse: () => 'password');

  @override
  void dispose() {
    _given.dispose();
    super.dispose();
  }

  Future<void> _verify() => act(() async {
        final id = widget.asked.challengeId;
        try {
          final next = _method == 'password'
              ? await widget.service.verifyPassword(id, _given.text)
              : await widget.service.verifySignIn(id, _given.text.trim(), method: _method);
          if (!mounted) return;
          if (next is CodeAsked) {
            await Navigator.of(context).pushReplacement(
              MaterialPageRoute<void>(
                builder: (context) => CodeScreen(
                  service: widget.service,
                  challenge: next.challenge,
                  methods: next.methods,
                  answer: (challengeId, otp, method) =>
                      widget.service.verifySignIn(challengeId, otp, method: method),
                ),
              ),
            );
          } else {
            Navigator.of(context).popUntil((route) => route.isFirst);
          }
        } on Refusal catch (refused) {
          _given.clear();
          if (refused.closes && mounted) Navigator.of(context).pop();
          rethrow;
        }
      });

  @override
  Widget build(BuildContext context) => FormPage(
        title: 'One more step',
        text: 'This account asks for more than its phone.',
        children: [
          Trouble(refusal),
          Field(
            label: _labels[_method]!,
            controller: _given,
            secret: _method == 'password',
            autofill: _method == 'password' ? AutofillHints.password : AutofillHints.oneTimeCode,
            onSubmitted: _verify,
          ),
          Send(label: 'Continue', busy: busy, onPressed: _verify),
          for (final method in widget.asked.methods)
            if (method != _method && _labels.containsKey(method))
              TextButton(
                onPressed: busy ? null : () => setState(() => _method = method),
                child: Text(_labels[method]!),
              ),
        ],
      );
}
