import 'package:flutter/material.dart';

import 'answers.dart';
import 'latchkey_service.dart';
import 'parts.dart';
import 'screens/home.dart';
import 'screens/sign_in.dart';

/// Where Latchkey answers. 10.0.2.2 is the computer on which an Android emulator runs.
const latchkeyUrl = String.fromEnvironment('LATCHKEY_URL', defaultValue: 'http://10.0.2.2:5000');

void main() {
  WidgetsFlutterBinding.ensureInitialized();
  runApp(ExampleApp(service: LatchkeyService(latchkeyUrl)));
}

class ExampleApp extends StatelessWidget {
  const ExampleApp({required this.service, super.key});

  final LatchkeyService service;

  @override
  Widget build(BuildContext context) {
    const seed = Color(0xFFA83D19);
    return MaterialApp(
      title: 'Latchkey example',
      theme: ThemeData(colorSchemeSeed: seed),
      darkTheme: ThemeData(colorSchemeSeed: seed, brightness: Brightness.dark),
      home: Start(service: service),
    );
  }
}

/// Goes on with the session of the last time; then shows the home to who is signed in, and the sign-in to others.
class Start extends StatefulWidget {
  const Start({required this.service, super.key});

  final LatchkeyService service;

  @override
  State<Start> createState() => _StartState();
}

class _StartState extends State<Start> with Acting<Start> {
  bool _known = false;

  @override
  void initState() {
    super.initState();
    _restore();
  }

  Future<void> _restore() => act(() async {
        await widget.service.restore();
        if (mounted) setState(() => _known = true);
      });

  @override
  Widget build(BuildContext context) {
    if (!_known) {
      return FormPage(
        title: 'Just a moment',
        text: 'Looking for your session …',
        children: [
          Trouble(refusal),
          Send(label: 'Try again', busy: busy, onPressed: _restore),
        ],
      );
    }
    return ListenableBuilder(
      listenable: widget.service,
      builder: (context, _) {
        final User? user = widget.service.user;
        return user == null ? SignInScreen(service: widget.service) : HomeScreen(service: widget.service, user: user);
      },
    );
  }
}
