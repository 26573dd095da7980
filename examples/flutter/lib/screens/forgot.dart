import 'package:flutter/material.dart';

import '../answers.dart';
import '../latchkey_service.dart';
import '../parts.dart';
import 'code.dart';

/// A new password with a code. Nothing here tells whether there is an account.
class ForgotScreen extends StatefulWidget {
  const ForgotScreen({required this.service, super.key});

  final LatchkeyService service;

  @override
  State<ForgotScreen> createState() => _ForgotScreenState();
}

class _ForgotScreenState extends State<ForgotScreen> with Acting<ForgotScreen> {
  final _identifier = TextEditingController();
  final _code = TextEditingController();
  final _password = TextEditingController();
  Challenge? _challenge;

  @override
  void dispose() {
    _identifier.dispose();
    _code.dispose();
    _password.dispose();
    super.dispose();
  }

  Future<void> _ask() => act(() async {
        final challenge = await widget.service.forgotPassword(_identifier.text.trim());
        if (mounted) setState(() => _challenge = challenge);
      });

  Future<void> _reset(Challenge challenge) => act(() async {
        try {
          await widget.service.resetPassword(challenge.id, _code.text, _password.text);
          if (!mounted) return;
          final done = SnackBar(content: Text('Your password was changed. Sign in with it.'));
          ScaffoldMessenger.of(context).showSnackBar(done);
          Navigator.of(context).pop();
        } on Refusal catch (refused) {
          if (refused.code == 'invalid_code') _code.clear();
          if (refused.closes && mounted) setState(() => _challenge = null);
          rethrow;
        }
      });

  @override
  Widget build(BuildContext context) {
    final challenge = _challenge;
    if (challenge == null) {
      return FormPage(
        title: 'Forgot your password?',
        text: 'We send you a code, and you set a new one.',
        children: [
          Trouble(refusal),
          Field(
            label: 'E-mail, phone or username',
            controller: _identifier,
            error: refusal?.errors['identifier'],
            autofill: AutofillHints.username,
            onSubmitted: _ask,
          ),
          Send(label: 'Send me a code', busy: busy, onPressed: _ask),
        ],
      );
    }
    return FormPage(
      title: 'Set a new password',
      text: 'If there is an account, a code is on its way to ${challenge.destination}. '
          'A new password signs all devices out.',
      children: [
        Sent(
          key: ValueKey((challenge.id, challenge.resendAt)),
          service: widget.service,
          challenge: challenge,
          again: () => widget.service.resend(challenge.id),
          onSent: (sent) => setState(() => _challenge = sent),
        ),
        Trouble(refusal),
        CodeField(controller: _code, onFull: (_) => FocusScope.of(context).nextFocus()),
        Countdown(
          until: challenge.expiresAt,
          onEnd: () => setState(() => _challenge = null),
          builder: (context, left) => Text(left == null ? 'The time is over.' : 'This code works for $left'),
        ),
        Field(
          label: 'New password',
          hint: 'At least 8 characters.',
          controller: _password,
          error: refusal?.errors['new_password'],
          autofill: AutofillHints.newPassword,
          secret: true,
          onSubmitted: () => _reset(challenge),
        ),
        Send(label: 'Set the password', busy: busy, onPressed: () => _reset(challenge)),
      ],
    );
  }
}
