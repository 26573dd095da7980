@echo off
rem Windows: sets up what run.bat needs, in .venv. Needs Python 3.11 or newer, with its launcher (py) or on the PATH.
setlocal
set PYTHONUTF8=1
rem Flask by itself would read the .env of a folder above, too.
set FLASK_SKIP_DOTENV=1
set FLASK_APP=app
cd /d "%~dp0"
set PYTHON=python
py -3 -c "" >nul 2>nul
if "%errorlevel%"=="0" set PYTHON=py -3
%PYTHON% -c "import sys; sys.exit(sys.version_info < (3, 11))"
if not "%errorlevel%"=="0" goto old
rem One that is half made, or that was made for a Python that another took the place of, is made anew.
set WHOLE=import pip, sys; sys.exit('version = ' + sys.version[:5] not in open('.venv/pyvenv.cfg', encoding='utf-8').read())
if not exist .venv\Scripts\python.exe goto make
.venv\Scripts\python -c "%WHOLE%" >nul 2>nul
if "%errorlevel%"=="0" goto packages

:make
%PYTHON% -m venv --clear .venv
if not "%errorlevel%"=="0" exit /b 1

:packages
.venv\Scripts\python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
if not "%errorlevel%"=="0" exit /b 1
copy /y requirements.txt .venv\installed-requirements.txt >nul
.venv\Scripts\python -m flask db upgrade
if not "%errorlevel%"=="0" exit /b 1
echo Ready. Start the service with run.bat
exit /b 0

:old
echo Python 3.11 or newer is needed and was not found.
exit /b 1
