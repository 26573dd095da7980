import 'package:flutter/material.dart';

import '../answers.dart';
import '../latchkey_service.dart';
import '../parts.dart';
import 'code.dart';
import 'forgot.dart';
import 'phone.dart';
import 'sign_up.dart';

/// Sign in with a password and a code. The other ways in lead on from here.
class SignInScreen extends StatefulWidget {
  const SignInScreen({required this.service, super.key});

  final LatchkeyService service;

  @override
  State<SignInScreen> createState() => _SignInScreenState();
}

class _SignInScreenState extends State<SignInScreen> with Acting<SignInScreen> {
  final _identifier = TextEditingController();
  final _password = TextEditingController();
  bool _remember = false;

  @override
  void dispose() {
    _identifier.dispose();
    _password.dispose();
    super.dispose();
  }

  Future<void> _signIn() => act(() async {
        final next = await widget.service.signIn(_identifier.text.trim(), _password.text);
        _password.clear();
        if (next is CodeAsked && mounted) await _askCode(next);
      });

  Future<void> _askCode(CodeAsked asked) => Navigator.of(context).push(
        MaterialPageRoute<void>(
          builder: (context) => CodeScreen(
            service: widget.service,
            challenge: asked.challenge,
            methods: asked.methods,
            answer: (challengeId, otp, method) =>
                widget.service.verifySignIn(challengeId, otp, method: method, remember: _remember),
          ),
        ),
      );

  void _open(Widget screen) => Navigator.of(context).push(MaterialPageRoute<void>(builder: (context) => screen));

  @override
  Widget build(BuildContext context) => FormPage(
        title: 'Welcome back',
        text: 'Your password first, then a code.',
        children: [
          Trouble(refusal),
          Field(
            label: 'E-mail, phone or username',
            controller: _identifier,
            error: refusal?.errors['identifier'],
            autofill: AutofillHints.username,
          ),
          Field(
            label: 'Password',
            controller: _password,
            error: refusal?.errors['password'],
            autofill: AutofillHints.password,
            secret: true,
            onSubmitted: _signIn,
          ),
          CheckboxListTile(
            value: _remember,
            onChanged: (value) => setState(() => _remember = value ?? false),
            title: const Text('Remember this device'),
            contentPadding: EdgeInsets.zero,
          ),
          Send(label: 'Sign in', busy: busy, onPressed: _signIn),
          OutlinedButton(
            onPressed: () => _open(PhoneScreen(service: widget.service)),
            child: const Text('Sign in with your phone alone'),
          ),
          TextButton(
            onPressed: () => _open(SignUpScreen(service: widget.service)),
            child: const Text('Create an account'),
          ),
          TextButton(
            onPressed: () => _open(ForgotScreen(service: widget.service)),
            child: const Text('Forgot your password?'),
          ),
        ],
      );
}
