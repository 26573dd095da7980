import 'package:flutter/material.dart';

import '../answers.dart';
import '../latchkey_service.dart';
import '../parts.dart';

/// What only somebody who is signed in sees.
class HomeScreen extends StatefulWidget {
  const HomeScreen({required this.service, required this.user, super.key});

  final LatchkeyService service;
  final User user;

  @override
  State<HomeScreen> createState() => _HomeScreenState();
}

class _HomeScreenState extends State<HomeScreen> with Acting<HomeScreen> {
  User? _asked;

  Future<void> _ask() => act(() async {
        final user = await widget.service.me();
        if (mounted) setState(() => _asked = user);
      });

  Future<void> _signOut() => act(widget.service.signOut);

  @override
  Widget build(BuildContext context) {
    final me = _asked ?? widget.user;
    final facts = {
      'E-mail': me.email,
      'Phone': me.phone,
      'Username': me.username,
      'Role': me.role,
      'Second factors': me.mfa.isEmpty ? 'codes by message' : me.mfa.join(', '),
      'Member since': MaterialLocalizations.of(context).formatMediumDate(me.createdAt.toLocal()),
    };
    return FormPage(
      title: 'Hello, ${me.name ?? me.email ?? me.phone ?? 'you'}',
      text: 'You are signed in.',
      children: [
        Trouble(refusal),
        for (final MapEntry(:key, :value) in facts.entries)
          if (value != null)
            ListTile(contentPadding: EdgeInsets.zero, title: Text(value), subtitle: Text(key)),
        Send(label: 'Ask again who I am', busy: busy, onPressed: _ask),
        OutlinedButton(onPressed: busy ? null : _signOut, child: const Text('Sign out')),
      ],
    );
  }
}
