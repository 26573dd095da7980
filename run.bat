@echo off
rem Windows: a running service on this machine. gunicorn does not run there; waitress does.
setlocal
set PYTHONUTF8=1
rem Flask by itself would read the .env of a folder above, too.
set FLASK_SKIP_DOTENV=1
set FLASK_APP=app
cd /d "%~dp0"
rem The first run sets up, and so does the first one after an update of the locked packages.
if not exist .venv\Scripts\python.exe goto setup
set SAME=import filecmp, sys; sys.exit(not filecmp.cmp('requirements.txt', '.venv/installed-requirements.txt', False))
set WHOLE=import pip, sys; sys.exit('version = ' + sys.version[:5] not in open('.venv/pyvenv.cfg', encoding='utf-8').read())
.venv\Scripts\python -c "%WHOLE%" >nul 2>nul
if not "%errorlevel%"=="0" goto setup
.venv\Scripts\python -c "%SAME%" >nul 2>nul
if "%errorlevel%"=="0" goto start

:setup
call setup.bat
if not "%errorlevel%"=="0" exit /b 1

:start
.venv\Scripts\python -m flask db upgrade
if not "%errorlevel%"=="0" exit /b 1
.venv\Scripts\python -m app
exit /b %errorlevel%
