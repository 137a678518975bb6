# entra-auth-mcp started by the Task Scheduler when you sign in, as you. The folder below holds
# entra-auth-mcp.exe and .env. Keep it in your profile: the token file there is protected by the
# access list that the profile's files inherit, and by nothing of the server's own.

$folder = "$env:LOCALAPPDATA\entra-auth-mcp"
$action = New-ScheduledTaskAction -Execute "$folder\entra-auth-mcp.exe" -WorkingDirectory $folder
$trigger = New-ScheduledTaskTrigger -AtLogOn -User $env:USERNAME
$settings = New-ScheduledTaskSettingsSet -ExecutionTimeLimit 0 `
    -RestartCount 3 -RestartInterval (New-TimeSpan -Minutes 1) `
    -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
Register-ScheduledTask -TaskName entra-auth-mcp `
    -Action $action -Trigger $trigger -Settings $settings
