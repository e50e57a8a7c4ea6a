# Manual pages and completion scripts, made by the program from its option tables: into the build folder, and installed from there.
if(TARGET offsite AND NOT CMAKE_CROSSCOMPILING)
  set(MAN_DIR ${CMAKE_BINARY_DIR}/man)
  set(COMPLETION_DIR ${CMAKE_BINARY_DIR}/completion)
  add_custom_command(OUTPUT ${MAN_DIR}/stamp
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${MAN_DIR} ${COMPLETION_DIR}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${MAN_DIR} ${COMPLETION_DIR}
    COMMAND $<TARGET_FILE:offsite> man -o ${MAN_DIR}
    COMMAND $<TARGET_FILE:offsite> completion bash > ${COMPLETION_DIR}/offsite
    COMMAND $<TARGET_FILE:offsite> completion zsh > ${COMPLETION_DIR}/_offsite
    COMMAND $<TARGET_FILE:offsite> completion fish > ${COMPLETION_DIR}/offsite.fish
    COMMAND ${CMAKE_COMMAND} -E touch ${MAN_DIR}/stamp
    DEPENDS offsite
    COMMENT "Writing manual pages and completion scripts"
    VERBATIM)
  add_custom_target(man ALL DEPENDS ${MAN_DIR}/stamp)
  install(DIRECTORY ${MAN_DIR}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
  install(FILES ${COMPLETION_DIR}/offsite DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${COMPLETION_DIR}/_offsite DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${COMPLETION_DIR}/offsite.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
