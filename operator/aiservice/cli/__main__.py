from aiservice.cli.app import main

main()
