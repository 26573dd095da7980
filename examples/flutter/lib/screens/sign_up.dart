import 'package:flutter/material.dart';

import '../latchkey_service.dart';
import '../parts.dart';
import 'code.dart';

/// Sign up with an e-mail address and a password.
class SignUpScreen extends StatefulWidget {
  const SignUpScreen({required this.service, super.key});

  final LatchkeyService service;

  @override
  State<SignUpScreen> createState() => _SignUpScreenState();
}

class _SignUpScreenState extends State<SignUpScreen> with Acting<SignUpScreen> {
  final _name = TextEditingController();
  final _email = TextEditingController();
  final _password = TextEditingController();

  @override
  void dispose() {
    _name.dispose();
    _email.dispose();
    _password.dispose();
    super.dispose();
  }

  Future<void> _signUp() => act(() async {
        final challenge = await widget.service.signUp(
          email: _email.text.trim(),
          password: _password.text,
          name: _name.text.trim(),
        );
        if (!mounted) return;
        await Navigator.of(context).push(
          MaterialPageRoute<void>(
            builder: (context) => CodeScreen(
              service: widget.service,
              challenge: challenge,
              answer: (challengeId, otp, _) => widget.service.verifySignUp(challengeId, otp),
            ),
          ),
        );
      });

  @override
  Widget build(BuildContext context) => FormPage(
        title: 'Create an account',
        text: 'It takes a minute: we send a code to your e-mail address.',
        children: [
          Trouble(refusal),
          Field(
            label: 'Name',
            controller: _name,
            error: refusal?.errors['name'],
            autofill: AutofillHints.name,
          ),
          Field(
            label: 'E-mail',
            controller: _email,
            error: refusal?.errors['email'],
            autofill: AutofillHints.email,
            keyboard: TextInputType.emailAddress,
          ),
          Field(
            label: 'Password',
            hint: 'At least 8 characters.',
            controller: _password,
            error: refusal?.errors['password'],
            autofill: AutofillHints.newPassword,
            secret: true,
            onSubmitted: _signUp,
          ),
          Send(label: 'Send me a code', busy: busy, onPressed: _signUp),
        ],
      );
}
